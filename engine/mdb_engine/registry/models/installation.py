"""Which installation of the operator manages a database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["Installation"]


@dataclass(frozen=True, slots=True)
class Installation:
    """One installation of the operator, whichever of its replicas works.

    Parameters
    ----------
    identity
        Tells it from all others, in other clusters too.
    namespace
        Where it is installed, for people to read.
    claimed_at
        When it took the database; None of one that has not.
    adopted_from
        The installations whose database and apps it took over, by identity.
    """

    identity: str
    namespace: str
    claimed_at: datetime | None = None
    adopted_from: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as people are told of it."""
        since = f", since {self.claimed_at:%Y-%m-%dT%H:%M:%SZ}" if self.claimed_at else ""
        return f"{self.identity} (namespace {self.namespace}{since})"
