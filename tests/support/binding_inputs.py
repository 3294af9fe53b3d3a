# ruff: noqa: C901, E501, PLR0912, PT017, SIM105 - tables of inputs, and one that lays them out
"""Mounted bindings as no kubelet writes them, and what has to be so of whatever reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from mdb_engine.connection import binding as module
from mdb_engine.connection.binding import Binding, find_binding, fingerprint, read_binding
from mdb_engine.exceptions import MdbEngineError

__all__ = ["Mount", "check_binding", "mounts"]

SECRET = "of-version"
"""In every entry that is a secret, beside its version."""

KEYS = (
    "type", "provider", "uri", "database", "app-slug", "app-secret", "secret-version",
    "app-secret-previous", "session-key", "session-key-previous", "certificates", "client-certificate",
)  # fmt: skip

HUGE = module.LARGEST_ENTRY_BYTES


@dataclass(frozen=True)
class Mount:
    """A binding's directory: its layout, its files at first, and what they become meanwhile."""

    layout: str
    files: Mapping[str, Any]
    then: Mapping[str, Any] | None
    at: int  # after so many files were read


def valid(version: int) -> dict[str, bytes]:
    """Return what the operator projects."""
    return {
        "type": b"mongodb",
        "provider": b"mdb-operator",
        "uri": f"mongodb://shop.v{version}:{SECRET}-{version}@db:27017/".encode(),
        "database": b"shared",
        "app-slug": b"shop",
        "app-secret": f"token-{SECRET}-{version}".encode(),
        "secret-version": str(version).encode(),
        "app-secret-previous": b"",
        "session-key": f"session-{SECRET}-{version}".encode(),
        "session-key-previous": b"",
        "certificates": b"",
        "client-certificate": b"",
    }


_ODD = st.one_of(
    st.sampled_from(
        ["absent", "directory", "dangling", "loop", "fifo", "closed", "up", "long"]
    ),
    st.sampled_from(
        [
            b"", b" ", b"\n", b"\x00", b"\xff" + SECRET.encode(), b"\xef\xbb\xbfmongodb", b"\xed\xa0\x80",
            SECRET.encode() + b"\r\nx: y", f"a\x00{SECRET}".encode(), b"x" * HUGE, b"x" * (HUGE + 1),
            b"-1", b"1.0", b"9" * 30, "٣".encode(), b"1\n2", f"\x1b[2J{SECRET}".encode(), b"../..", b"bank",
            f"{SECRET}://x".encode(), b"mongodb://", b"mongodb://%zz", SECRET.encode() * 1000,
        ]
    ),
    st.binary(max_size=30),
)  # fmt: skip

_FILES = st.builds(
    lambda version, odd: {**valid(version), **odd},
    st.integers(1, 3),
    st.one_of(
        st.just({}),
        st.dictionaries(st.sampled_from(KEYS), _ODD, max_size=3),
        st.dictionaries(st.sampled_from(KEYS), _ODD, max_size=len(KEYS)),
    ),
)

mounts: st.SearchStrategy[Mount] = st.builds(
    Mount,
    st.sampled_from(
        ["mounted"] * 6 + ["plain"] * 4 + ["no data", "data is a file", "data is a directory", "data loops",
         "data is elsewhere", "a file", "dangling", "closed", "data is nothing's", "not utf-8"]
    ),
    _FILES,
    st.one_of(st.none(), _FILES),
    st.integers(0, 14),
)  # fmt: skip


def _lay(directory: Path, layout: str, files: Mapping[str, Any], number: int) -> None:
    if layout == "a file":
        if not directory.exists():
            directory.write_text(SECRET)
        return
    if layout == "dangling":
        if not directory.is_symlink():
            directory.symlink_to("nothing")
        return
    directory.mkdir(exist_ok=True)
    if layout in {"plain", "closed"}:
        for name in KEYS:
            _write(directory / name, files[name])
        if layout == "closed":
            directory.chmod(0)
        return
    fresh = directory / ("..\udcff" if layout == "not utf-8" else f"..{number}")
    if layout == "data is elsewhere":
        fresh = directory.parent / f".elsewhere-{number}"
    fresh.mkdir(exist_ok=True)
    for name in KEYS:
        _write(fresh / name, files[name])
    data, link = directory / "..data", directory / "..data_tmp"
    if layout == "data is a file":
        data.write_text(SECRET)
    elif layout == "data is a directory":
        data.mkdir(exist_ok=True)
    elif layout != "no data":
        targets = {
            "data loops": "..data",
            "data is elsewhere": str(fresh),
            "data is nothing's": "..0",
        }
        link.symlink_to(targets.get(layout, fresh.name))
        link.rename(data)
    for name in KEYS:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    if number > 1 and (directory / f"..{number - 1}").exists():
        shutil.rmtree(directory / f"..{number - 1}")


def _write(path: Path, content: Any) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "directory":
        path.mkdir()
    elif content == "fifo":
        os.mkfifo(path)
    elif content == "closed":
        path.write_text(SECRET)
        path.chmod(0)
    elif content != "absent":
        target = {"dangling": "nothing", "loop": path.name, "up": "..", "long": "x" * 250}[content]
        path.symlink_to(target)


def check_binding(mount: Mount, root: Path) -> str:
    """Read a mount, which may change meanwhile; return what came of it."""
    directory = root / "binding"
    _lay(directory, mount.layout, mount.files, 1)
    read, count = module._read, 0

    def changed_meanwhile(path: Path) -> str:
        nonlocal count
        count += 1
        if count == mount.at and mount.then is not None and mount.layout in {"mounted", "plain"}:
            _lay(directory, mount.layout, mount.then, 2)
        return read(path)

    outcomes = []
    for what in (
        lambda: find_binding(root, "shop"),
        lambda: find_binding(root),
        lambda: read_binding(directory),
    ):
        count = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_read", changed_meanwhile)
            outcomes.append(_outcome(what, mount))
    try:
        fingerprint(directory)
    except OSError:
        pass
    return outcomes[-1]


def _outcome(what: Any, mount: Mount) -> str:
    try:
        found = what()
    except MdbEngineError as error:
        shown = f"{error!r} {error} {error.__cause__!r} {'' if error.__suppress_context__ else repr(error.__context__)}"
        assert SECRET not in shown, shown
        assert len(error.message) < 1000, "an error holds what a file does"
        assert error.message.isprintable(), repr(error.message)
        assert "binding" in error.message or "/" in error.message, error.message
        return "refused"
    if found is None:
        return "none"
    _is_whole(found, mount)
    return "read"


def _is_whole(found: Binding, mount: Mount) -> None:
    """See that all of a binding is of one state, whatever that is."""
    values = {
        "uri": found.uri.get_secret_value(),
        "database": found.database,
        "app-slug": found.slug,
        "app-secret": found.token.get_secret_value(),
        "secret-version": str(found.version),
    }
    states = [mount.files] if mount.then is None else [mount.files, mount.then]
    assert any(
        all(_same(state[key], value, key) for key, value in values.items()) for state in states
    ), "it is of two states"
    assert SECRET not in f"{found!r} {found}"


def _same(content: Any, value: str, key: str) -> bool:
    if not isinstance(content, bytes):
        return False
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        return False
    return str(int(text)) == value if key == "secret-version" and text.isdigit() else text == value
