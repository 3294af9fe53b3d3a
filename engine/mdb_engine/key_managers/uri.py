"""The URI that chooses a key manager.  It says where a key is, and never holds a credential."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from mdb_engine.exceptions import MasterKeyError

__all__ = ["KeyManagerUri"]


_NAME = re.compile(r"[A-Za-z0-9._-]{1,32}")
"""No colon, which ends it in the ids of keys."""


@dataclass(frozen=True, slots=True)
class KeyManagerUri:
    """A URI, taken apart: ``scheme://host/path?option=value``.

    Parameters
    ----------
    scheme, host, path
        As in the URI; the path without its first slash.
    options
        What the query says.
    """

    scheme: str
    host: str
    path: str
    options: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.path}"

    @classmethod
    def parse(cls, text: str) -> KeyManagerUri:
        """Read a URI.

        Raises
        ------
        MasterKeyError
            If it holds a user, or is no URI.
        """
        try:
            parts = urlsplit(text.strip())
            options = parse_qsl(
                parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)
            )
            host = parts.netloc
        except ValueError:
            raise MasterKeyError("The URI of a key manager is malformed") from None
        if "@" in host or parts.fragment:
            # Not shown: what stands before an @ is a password as a rule.
            raise MasterKeyError(
                f"The URI of a key manager ({parts.scheme}://) must hold no user, password or "
                "fragment; credentials come from the environment or from files"
            )
        if not _NAME.fullmatch(dict(options).get("id", "x")):
            raise MasterKeyError("id= of a key manager is up to 32 of a-z, A-Z, 0-9, '.', '_', '-'")
        return cls(parts.scheme.lower(), host, unquote(parts.path).lstrip("/"), dict(options))

    def only(self, *names: str) -> None:
        """Refuse any option but these.

        Raises
        ------
        MasterKeyError
            With the names of those that are unknown, and no value.
        """
        unknown = sorted(self.options.keys() - set(names) - {"id"})
        if unknown:
            raise MasterKeyError(
                f"{self}: unknown {', '.join(map(repr, unknown))}; known are "
                f"{', '.join(sorted({*names, 'id'}))}"
            )

    @property
    def directory(self) -> Path:
        """Where the keyring is, of a ``file:///`` URI."""
        return Path("/", self.path)

    @property
    def prefix(self) -> str:
        """What ids of this manager's keys begin with: ``id=``, else the scheme."""
        return self.options.get("id") or self.scheme
