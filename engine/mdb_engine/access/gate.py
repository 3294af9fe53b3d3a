"""Check, before every operation, that the app is who it says and what it may reach.

Everything is decided from cached grants: no I/O, no command to MongoDB, a few microseconds.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from datetime import UTC, datetime

from mdb_engine.access.audit import AuditTrail
from mdb_engine.access.grant_cache import GrantCache
from mdb_engine.access.granted import GrantedAccess, NameIndex
from mdb_engine.access.model import Access, Verifier
from mdb_engine.config import secret_variable
from mdb_engine.exceptions import GrantMalformed, InvalidToken, NotRegistered, TokenRequired

__all__ = ["PresentedToken", "TokenGate", "accepted_version"]


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
    """Return the version of the secret that a token is, or None if it is none that is accepted.

    Every verifier is compared, each in constant time, so that neither how much of a token is right
    nor which version it is shows in the time that this takes.
    """
    version: int | None = None
    for verifier in verifiers:
        equal = hmac.compare_digest(token.digest, verifier.sha256)
        if equal & verifier.accepted(now):
            version = verifier.version
    return version


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
        self._seen: NameIndex | None = None
        self._access: GrantedAccess | None = None

    def admit(self) -> Access:
        """Check the token against the cached verifiers, in constant time and without I/O.

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
        self._verify(index, token)
        if self._access is None or self._seen is not index:
            self._access = GrantedAccess(
                self._slug, index, read_scopes=self._read_scopes, read_only=self._read_only
            )
            self._seen = index
        return self._access

    def record(self, operation: str, collection: str, owner: str, denied: Exception | None) -> None:
        """Note an access for the audit trail; never blocks and never raises."""
        self._audit.access(
            self._slug, operation, collection, owner, denied, known=self._cache.registered
        )

    def _verify(self, index: NameIndex, token: PresentedToken | None) -> None:
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
        if accepted_version(token, grant.verifiers, self._clock()) is None:
            raise InvalidToken(
                f"the secret presented for app {self._slug!r} is not, or no longer, one of its own"
            )
