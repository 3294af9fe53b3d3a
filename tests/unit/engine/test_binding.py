from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from support import leakscan
from support.binding import MountedSecret

from mdb_engine.connection import binding as binding_module
from mdb_engine.connection.binding import find_binding, fingerprint, read_binding
from mdb_engine.exceptions import (
    BindingError,
    InvalidToken,
)


def entries(version: int = 1, slug: str = "shop", **others: str) -> dict[str, str]:
    return {
        "type": "mongodb",
        "provider": "mdb-operator",
        "uri": f"mongodb://{slug}.v{version}:hunter-{version}-hunter@db:27017/",
        "database": "shared",
        "username": f"{slug}.v{version}",
        "password": f"hunter-{version}-hunter",
        "app-slug": slug,
        "app-secret": f"token-of-version-{version}",
        "app-secret-previous": "",
        "session-key": f"session-key-of-version-{version}",
        "session-key-previous": "",
        "secret-version": str(version),
        **others,
    }


@pytest.fixture
def mounted(tmp_path: Path) -> MountedSecret:
    return MountedSecret(tmp_path / "bindings" / "shop", entries())


def test_the_binding_of_the_operator_is_found_among_others(mounted: MountedSecret) -> None:
    root = mounted.directory.parent
    MountedSecret(root / "other", {"type": "mongodb", "provider": "somebody"})
    (root / "a-file").write_text("x")
    found = find_binding(root, "shop")
    assert found is not None
    assert (found.slug, found.version, found.database) == ("shop", 1, "shared")
    assert found.token.get_secret_value() == "token-of-version-1"
    assert found.previous_token is None


def test_a_plain_directory_is_a_binding_too(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    directory.mkdir()
    for name, value in entries().items():
        (directory / name).write_text(f"{value}\n")
    before = fingerprint(directory)
    assert read_binding(directory).token.get_secret_value() == "token-of-version-1"
    (directory / "secret-version").write_text("22")
    assert fingerprint(directory) != before


@pytest.mark.parametrize("root", [None, Path("/nowhere/at/all")])
def test_there_may_be_none(root: Path | None) -> None:
    assert find_binding(root) is None


def test_another_apps_binding_is_refused(mounted: MountedSecret) -> None:
    with pytest.raises(InvalidToken, match="is for app shop, not 'bank'"):
        find_binding(mounted.directory.parent, "bank")


def test_several_apps_need_a_slug(mounted: MountedSecret) -> None:
    root = mounted.directory.parent
    MountedSecret(root / "bank", entries(slug="bank"))
    with pytest.raises(BindingError, match="several apps"):
        find_binding(root)
    found = find_binding(root, "bank")
    assert found is not None
    assert found.slug == "bank"


@pytest.mark.parametrize("key", ["uri", "app-secret", "app-slug", "database", "secret-version"])
def test_an_incomplete_binding_names_what_it_lacks(mounted: MountedSecret, key: str) -> None:
    mounted.project({**entries(), key: ""})
    with pytest.raises(BindingError, match=f"lacks {key}"):
        read_binding(mounted.directory)


@pytest.mark.parametrize("version", ["two", "-1", "1.0", "٣", "1" * 5000])
def test_a_version_that_is_no_number_is_refused(mounted: MountedSecret, version: str) -> None:
    mounted.project({**entries(), "secret-version": version})
    with pytest.raises(BindingError, match="not a number"):
        read_binding(mounted.directory)


def test_no_read_mixes_two_versions(mounted: MountedSecret) -> None:
    """Read while the files are replaced as fast as can be: every binding is of one version."""
    done = threading.Event()

    def replace() -> None:
        version = 2
        while not done.is_set():
            mounted.project(entries(version))
            version += 1

    writer = threading.Thread(target=replace)
    writer.start()
    seen: set[int] = set()
    try:
        while len(seen) < 20:
            try:
                found = read_binding(mounted.directory)
            except BindingError:  # replaced five times within one read: refused, not mixed
                continue
            version = found.version
            assert found.token.get_secret_value() == f"token-of-version-{version}"
            assert f"hunter-{version}-hunter@" in found.uri.get_secret_value()
            seen.add(version)
    finally:
        done.set()
        writer.join()


def test_a_replacement_in_the_middle_of_a_read_begins_it_anew(
    mounted: MountedSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = binding_module._read
    pending = [entries(2)]

    def replaced_meanwhile(path: Path) -> str:
        if pending:
            mounted.project(pending.pop())
        return read(path)

    monkeypatch.setattr(binding_module, "_read", replaced_meanwhile)
    found = read_binding(mounted.directory)
    assert (found.version, found.token.get_secret_value()) == (2, "token-of-version-2")


def test_nothing_secret_is_shown(mounted: MountedSecret) -> None:
    for name in ("uri", "password", "app-secret", "session-key"):
        leakscan.register(entries()[name], name)
    found = read_binding(mounted.directory)
    assert leakscan.occurrences(f"{found!r} {found} {found.fingerprint}") == []


def test_an_entry_that_is_no_text_is_not_shown(mounted: MountedSecret) -> None:
    (mounted.directory / "uri").write_bytes(b"\xffsecret-bytes")
    with pytest.raises(BindingError) as caught:
        read_binding(mounted.directory)
    chain: list[Any] = [caught.value, caught.value.__cause__]
    assert "secret-bytes" not in repr(chain)
    assert caught.value.__suppress_context__


def test_what_somebody_else_mounts_may_be_of_any_kind(mounted: MountedSecret) -> None:
    root = mounted.directory.parent
    for name, label in (("a-keystore", b"\xff\xfe\x00"), ("huge", b"x" * (2 << 20))):
        (root / name).mkdir()
        (root / name / "type").write_bytes(label)
    MountedSecret(root / "database", {"type": "postgresql", "provider": "somebody"})
    (root / "database" / "keystore.jks").write_bytes(b"\xfe\xed\xfe\xed")
    (mounted.directory / "truststore.jks").write_bytes(b"\xfe\xed\xfe\xed")
    for slug in (None, "shop"):
        found = find_binding(root, slug)
        assert found is not None
        assert found.slug == "shop"


def test_a_broken_binding_of_another_app_is_that_apps_affair(mounted: MountedSecret) -> None:
    root = mounted.directory.parent
    MountedSecret(root / "bank", entries(slug="bank", uri=""))
    found = find_binding(root, "shop")
    assert found is not None
    assert found.slug == "shop"
    for slug in (None, "bank", "other"):  # it may be the one that is looked for
        with pytest.raises(BindingError, match="lacks uri"):
            find_binding(root, slug)


def test_a_binding_that_cannot_be_read_is_not_taken_for_none(mounted: MountedSecret) -> None:
    (mounted.directory / "..data").unlink()
    (mounted.directory / "..data").symlink_to("..gone")
    with pytest.raises(BindingError, match="could not be read as a whole"):
        find_binding(mounted.directory.parent, "shop")
