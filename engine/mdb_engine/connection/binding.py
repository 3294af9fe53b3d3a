"""Read what the operator projects into a pod: a directory of one file per key.

The layout is that of the Service Binding specification: every directory below
``$SERVICE_BINDING_ROOT`` is one binding, and its files are the entries. kubelet replaces them all
at once, by renaming the symlink ``..data``; so that link is resolved once and every key is read
below what it led to. A reader that opens ``<binding>/<key>`` one by one can get the user name of
one version and the password of another.

Changes are found by polling: kubelet's rename gives no event on the files, and watching the
directory would need a dependency to save one ``readlink`` a second.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from mdb_engine.constants import SLUG_PATTERN
from mdb_engine.core.text import printable
from mdb_engine.exceptions import (
    BindingError,
    InvalidToken,
)

__all__ = ["Binding", "find_binding", "fingerprint", "read_binding"]

BINDING_TYPE: Final = "mongodb"
BINDING_PROVIDER: Final = "mdb-operator"

REQUIRED: Final = ("uri", "database", "app-slug", "app-secret", "secret-version")
"""Without these there is nothing to connect to, or nothing to prove who connects."""

CERTIFICATES: Final = ("certificates", "client-certificate")
"""For TLS to MongoDB: the authorities to trust, and the client's certificate with its key (PEM)."""

IDENTITY: Final = ("type", "provider")
"""What says whose a binding is. Of a binding that is not the operator's, nothing else is read."""

KEYS: Final = frozenset(
    (
        *IDENTITY,
        *REQUIRED,
        *CERTIFICATES,
        "app-secret-previous",
        "session-key",
        "session-key-previous",
    )
)
"""All that is read; what else is mounted beside it (a trust store, say) may be of any kind."""

ATTEMPTS: Final = 5
"""How often a read is begun anew when kubelet replaces the files in the middle of it."""

_SLUG: Final = re.compile(SLUG_PATTERN)

_DATABASE: Final = re.compile(r"""[^/\\. "$*<>:|?]{1,63}""")
"""What MongoDB takes for the name of a database."""

_VERSION: Final = re.compile(r"[0-9]{1,18}")
"""A number of 64 bits; Python refuses to read one of some thousand digits."""

LARGEST_ENTRY_BYTES: Final = 1 << 20
"""A Secret holds at most 1 MiB; whatever is larger is no projected entry."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One version of a projected Secret, read as a whole.

    Parameters
    ----------
    directory
        Where it is mounted.
    slug
        The app that it belongs to.
    version
        The secret's version; grows with every rotation.
    uri
        Of the MongoDB deployment, user and password included.
    database
        Name of the database.
    token, previous_token
        The app's secret, and the one before it while that is still accepted.
    session_key, previous_session_key
        What signs JWT sessions, and what signed them before.
    certificates
        Paths of PEM files for TLS to MongoDB, where there are any; see ``CERTIFICATES``.
    fingerprint
        Tells this state of the directory from any other; says nothing of its content.
    """

    directory: Path
    slug: str
    version: int
    uri: SecretStr
    database: str
    token: SecretStr
    previous_token: SecretStr | None = None
    session_key: SecretStr | None = None
    previous_session_key: SecretStr | None = None
    certificates: Mapping[str, Path] = field(default_factory=dict)
    fingerprint: str = ""


def find_binding(root: Path | None, slug: str | None = None) -> Binding | None:
    """Return the operator's binding for an app, or None where the operator has mounted none.

    Parameters
    ----------
    root
        ``$SERVICE_BINDING_ROOT``; None or a directory that does not exist: no binding.
    slug
        The app. None takes the only one there is.

    Raises
    ------
    InvalidToken
        If the operator's bindings are all for other apps.
    BindingError
        If one is incomplete, or if there are several and no slug says which.
    """
    try:
        if root is None or not root.is_dir():
            return None
        found, broken = _all_of_ours(root)
    except OSError as error:
        raise BindingError(
            f"the bindings below {root} cannot be looked at ({error.strerror}); see to its "
            "permissions, or that SERVICE_BINDING_ROOT names the right directory"
        ) from None
    # A broken one is a neighbour's affair, unless it may be the one that is looked for.
    if broken and (slug is None or not any(binding.slug == slug for binding in found)):
        raise broken[0]
    if not found:
        return None
    slugs = sorted(binding.slug for binding in found)
    if slug is None:
        if len(found) > 1:
            raise BindingError(
                f"{root} holds bindings for several apps ({', '.join(slugs)}); say which one this "
                "process is, with MongoDBEngine.from_environment(slug=...) or create_app(slug=...)"
            )
        return found[0]
    mine = [binding for binding in found if binding.slug == slug]
    if not mine:
        raise InvalidToken(
            f"the binding mounted below {root} is for app {', '.join(slugs)}, not {slug!r}; mount "
            "the Secret that the MdbApp of this app names in status.binding"
        )
    if len(mine) > 1:
        raise BindingError(f"{root} holds {len(mine)} bindings for app {slug!r}; mount only one")
    return mine[0]


def read_binding(directory: Path) -> Binding:
    """Read a binding again, as a whole.

    Raises
    ------
    BindingError
        If it is incomplete or malformed, or keeps changing while it is read.
    """
    entries, fingerprint = _entries(directory, KEYS)
    return _parse(directory, entries, fingerprint)


def fingerprint(directory: Path) -> str:
    """Return what tells this state of a binding's directory from any other.

    For a mounted Secret that is where ``..data`` leads; for a plain directory, the files' names,
    sizes and times. It is made anew every second, so it reads no file.

    Raises
    ------
    OSError
        If the directory is gone.
    """
    try:
        return f"link:{(directory / '..data').readlink()}"
    except FileNotFoundError:
        pass
    parts = []
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            continue
        stat = path.stat()
        parts.append(f"{path.name}={stat.st_mtime_ns}.{stat.st_ino}.{stat.st_size}")
    return "files:" + ";".join(parts)


class _NoText(BindingError):
    """An entry that is none of the operator's: not text, or larger than a Secret can be."""


def _all_of_ours(root: Path) -> tuple[list[Binding], list[BindingError]]:
    """Read the operator's bindings; what is wrong with one does not hide another."""
    found: list[Binding] = []
    broken: list[BindingError] = []
    for directory in sorted(root.iterdir()):
        if directory.name.startswith(".") or not directory.is_dir():
            continue
        try:
            if _is_ours(directory):
                found.append(read_binding(directory))
        except BindingError as error:
            broken.append(error)
    return found, broken


def _is_ours(directory: Path) -> bool:
    try:
        entries, _ = _entries(directory, IDENTITY)
    except _NoText:
        return False
    return entries.get("type") == BINDING_TYPE and entries.get("provider") == BINDING_PROVIDER


def _entries(directory: Path, keys: Collection[str]) -> tuple[dict[str, str], str]:
    """Read keys of one state of the directory; begin anew if it changed meanwhile."""
    problem: OSError | None = None
    for _ in range(ATTEMPTS):
        try:
            before = fingerprint(directory)
            base = directory
            if before.startswith("link:"):
                base = directory / before.removeprefix("link:")
            entries = {
                path.name: _read(path)
                for path in (base / key for key in sorted(keys))
                if path.is_file()
            }
            base.stat()  # gone: what was not found in it may well have been there
            if fingerprint(directory) == before:
                return entries, before
        except OSError as error:  # kubelet removes the old directory right after the rename
            problem = error
    raise BindingError(
        f"the binding in {directory} could not be read as a whole in {ATTEMPTS} attempts"
        + (f" ({type(problem).__name__}: {problem.strerror})" if problem else "")
    )


def _read(path: Path) -> str:
    name = printable(str(path))
    if path.stat().st_size > LARGEST_ENTRY_BYTES:
        raise _NoText(f"entry {name} is larger than {LARGEST_ENTRY_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        # `from None`: the cause holds the bytes, which may be a secret.
        raise _NoText(f"entry {name} is not UTF-8 text") from None


def _parse(directory: Path, entries: Mapping[str, str], state: str) -> Binding:
    missing = [key for key in REQUIRED if not entries.get(key)]
    if missing:
        raise BindingError(
            f"the binding in {directory} lacks {', '.join(missing)}; mount the whole Secret "
            "(no items:, no subPath)"
        )
    if odd := [key for key in REQUIRED if not entries[key].isprintable()]:
        raise BindingError(
            f"entry {', '.join(odd)} in {directory} holds a line break or another control "
            "character; mount the Secret as the operator writes it"
        )
    # Not shown: who puts a Secret together by hand may have put the token or the URI there.
    if _SLUG.fullmatch(entries["app-slug"]) is None:
        raise BindingError(f"entry app-slug in {directory} is no slug of an app")
    if _DATABASE.fullmatch(entries["database"]) is None:
        raise BindingError(f"entry database in {directory} is no name of a database")
    version = entries["secret-version"]
    if _VERSION.fullmatch(version) is None:
        raise BindingError(f"entry secret-version in {directory} is not a number")
    return Binding(
        directory=directory,
        slug=entries["app-slug"],
        version=int(version),
        uri=SecretStr(entries["uri"]),
        database=entries["database"],
        token=SecretStr(entries["app-secret"]),
        previous_token=_optional(entries, "app-secret-previous"),
        session_key=_optional(entries, "session-key"),
        previous_session_key=_optional(entries, "session-key-previous"),
        certificates={name: directory / name for name in CERTIFICATES if entries.get(name)},
        fingerprint=state,
    )


def _optional(entries: Mapping[str, str], key: str) -> SecretStr | None:
    value = entries.get(key)
    return SecretStr(value) if value else None
