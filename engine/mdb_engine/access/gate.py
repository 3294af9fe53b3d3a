"""Check, before every operation, that the app is who it says and what it may reach.

Everything is decided from cached grants: no I/O, no command to MongoDB, a few microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from mdb_engine.access.audit import AuditTrail
from mdb_engine.access.grant_cache import GrantCache
from mdb_engine.access.granted import GrantedAccess, NameIndex
from mdb_engine.access.model import Access, Verifier
from mdb_engine.config import secret_variable
from mdb_engine.exceptions import GrantMalformed, InvalidToken, NotRegistered, TokenRequired

__all__ = ["PresentedToken", "TokenGate", "accepted_version", "accepting_verifier"]


class PresentedToken:
    """An app's secret as it is presented: only its digest is kept, and not shown.

    Parameters
    ----------
    token
        The app's secret.
    """

    __slots__ = ("digest",)

    def __init__(self, token: str) -> None:
        # What is not Unicode is no token; an error that says so would hold it.
        self.digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()

    def __repr__(self) -> str:
        return "PresentedToken(...)"


def accepted_version(
    token: PresentedToken, verifiers: Collection[Verifier], now: datetime
) -> int | None:
    """Return the version of the secret that a token is, or None if it is none that is accepted."""
    verifier = accepting_verifier(token, verifiers, now)
    return None if verifier is None else verifier.version


def accepting_verifier(
    token: PresentedToken, verifiers: Collection[Verifier], now: datetime
) -> Verifier | None:
    """Return the verifier that accepts a token, or None if there is none.

    Every verifier is compared, each in constant time, so that neither how much of a token is right
    nor which version it is shows in the time that this takes.
    """
    accepting: Verifier | None = None
    for verifier in verifiers:
        equal = hmac.compare_digest(token.digest, verifier.sha256)
        if equal & verifier.accepted(now):
            accepting = verifier
    return accepting


@dataclass(frozen=True, slots=True)
class _Admitted:
    """What was verified last. It is replaced as a whole, as handles may be used on threads."""

    token: PresentedToken | None
    index: NameIndex
    ends: datetime | None
    access: GrantedAccess


class TokenGate:
    """Stands before every operation of one scoped database.

    Parameters
    ----------
    slug
        The app.
    cache
        The grants.
    audit
        Where denials and cross-app reads are noted.
    token
        Returns the token to present; asked every time, because it changes with a rotation.
    read_scopes, read_only
        How the handle is narrowed, see `GrantedAccess`.
    clock
        The time (UTC, aware).
    """

    notes_all = False

    def __init__(
        self,
        slug: str,
        cache: GrantCache,
        audit: AuditTrail,
        token: Callable[[], PresentedToken | None],
        *,
        read_scopes: Collection[str] | None = None,
        read_only: bool = False,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._slug = slug
        self._cache = cache
        self._audit = audit
        self._token = token
        self._read_scopes = None if read_scopes is None else frozenset(read_scopes)
        self._read_only = read_only
        self._clock = clock
        self._admitted: _Admitted | None = None

    @property
    def cache(self) -> GrantCache:
        """The grants that it looks at."""
        return self._cache

    def admit(self) -> Access:
        """Check the token against the cached verifiers, in constant time and without I/O.

        What it returns is the same object for as long as nothing that it was made from changes: the
        token that is presented, the grants, and that the token's time has not run out. Those are
        looked at every time; the digests are compared when one of them has changed.

        Raises
        ------
        TokenRequired, InvalidToken
            If no token or a wrong one is held.
        NotRegistered
            If the app is not registered, or not any more.
        DatabaseUnavailable
            If the cached grants are too old to be trusted.
        NotInitialized
            If the engine is not running.
        """
        token = self._token()
        index = self._cache.index()
        known = self._admitted
        if (
            known is not None
            and token is known.token
            and index is known.index
            and (known.ends is None or self._clock() < known.ends)
        ):
            return known.access
        verifier = self._verify(index, token)
        access = GrantedAccess(
            self._slug, index, read_scopes=self._read_scopes, read_only=self._read_only
        )
        self._admitted = _Admitted(token, index, verifier.not_after, access)
        return access

    def record(self, operation: str, collection: str, owner: str, denied: Exception | None) -> None:
        """Note an access for the audit trail; never blocks and never raises."""
        if denied is None and owner == self._slug:
            return  # nothing that anybody would look for
        self._audit.access(
            self._slug, operation, collection, owner, denied, known=self._cache.registered
        )

    def _verify(self, index: NameIndex, token: PresentedToken | None) -> Verifier:
        grant = index.grants.get(self._slug)
        if grant is None:
            malformed = self._cache.malformed(self._slug)
            if malformed is not None:
                raise GrantMalformed(malformed.message)
            raise NotRegistered(f"app {self._slug!r} is not registered, or not any more")
        if token is None:
            raise TokenRequired(
                f"app {self._slug!r} has a secret and none was presented; mount its binding, set "
                f"{secret_variable(self._slug)}, or pass app_token="
            )
        verifier = accepting_verifier(token, grant.verifiers, self._clock())
        if verifier is None:
            raise InvalidToken(
                f"the secret presented for app {self._slug!r} is not, or no longer, one of its own"
            )
        return verifier
