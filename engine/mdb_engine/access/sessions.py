"""Sign and verify the JWT sessions of an app's users.

The key comes with the app's secret and rotates with it: sessions signed with the key before the
current one stay valid for as long as the operator projects that key. A new key is accepted at once,
but signs only when all replicas can be expected to hold it. ``kid`` is the version of the secret,
never anything made from the key itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mdb_engine.connection.binding import Binding
from mdb_engine.constants import ANONYMOUS
from mdb_engine.exceptions import InvalidToken, SessionInvalid, SessionRequired, TokenRequired

__all__ = ["Session", "SessionKeys", "Sessions", "cookie_name"]

ALGORITHM: Final = "HS256"
"""Pinned: what a token's header says of its algorithm is never believed."""

LEEWAY_SECONDS: Final = 10
"""How far the clocks of two replicas may differ."""

PUBLICATION_SECONDS: Final = 90
"""How long a key is known here before it signs: a mounted Secret was seen to take 55 s to reach a
pod, so some replicas do not hold the key yet.
"""

SHORTEST_KEY_BYTES: Final = 32
"""RFC 7518, section 3.2: a key as long as the hash, at least."""

RESERVED: Final = frozenset({"iss", "aud", "sub", "iat", "nbf", "exp", "jti"})


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The keys that are valid at this moment, by the version of the secret they came with.

    Parameters
    ----------
    current
        The version that signs.
    keys
        Every version that is accepted, the current one included.
    ends
        When a version is accepted no longer (UTC, aware). A binding says nothing of that: the
        operator takes the key out of it in time.
    """

    current: int
    keys: Mapping[int, bytes] = field(repr=False)
    ends: Mapping[int, datetime] = field(default_factory=dict)

    def accepted(self, version: int, now: datetime) -> bytes | None:
        """Return the key of a version, or None if it is none that is accepted."""
        end = self.ends.get(version)
        return self.keys.get(version) if end is None or now < end else None

    @classmethod
    def from_binding(cls, binding: Binding) -> SessionKeys:
        """Take them from a binding; where it holds none, derive them from the app's secret."""
        keys: dict[int, bytes] = {}
        pairs = (
            (binding.version - 1, binding.previous_session_key, binding.previous_token),
            (binding.version, binding.session_key, binding.token),
        )
        for version, key, token in pairs:
            if key is not None:
                keys[version] = _checked(key.get_secret_value().encode(), version)
            elif token is not None:
                keys[version] = derive_session_key(token.get_secret_value(), binding.slug)
        return cls(binding.version, keys)


@dataclass(frozen=True, slots=True)
class Session:
    """A verified session.

    Parameters
    ----------
    subject
        Whose it is.
    claims
        What the app put into it.
    expires_at
        When it ends (UTC).
    id
        Unique; what a list of revoked sessions would hold.
    """

    subject: str
    claims: Mapping[str, Any]
    expires_at: datetime
    id: str


class Sessions:
    """Signs and verifies the sessions of one app.

    Parameters
    ----------
    slug
        The app: issuer and audience of its sessions, so that no other app's are accepted.
    lifetime
        How long a session lasts.
    clock
        The time (UTC, aware).
    """

    def __init__(
        self,
        slug: str,
        lifetime: timedelta,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._slug = slug
        self._lifetime = lifetime
        self._clock = clock
        self._keys: SessionKeys | None = None
        self._published: dict[int, datetime] = {}

    @property
    def lifetime(self) -> timedelta:
        """How long a session lasts."""
        return self._lifetime

    def use(self, keys: SessionKeys) -> None:
        """Accept these keys at once, and sign with the newest once it is published.

        Until then the key signs that did before, as long as it is accepted. A process that has just
        started has seen no other and signs with the newest.
        """
        now = self._clock()
        wait = timedelta(seconds=0 if self._keys is None else PUBLICATION_SECONDS)
        self._published = {
            version: self._published.get(version, now + wait) for version in keys.keys
        }
        self._keys = keys

    def issue(self, subject: str, claims: Mapping[str, Any] | None = None) -> str:
        """Return a signed session.

        Parameters
        ----------
        subject
            Whose it is, a name or id.
        claims
            What else it says; readable by whoever holds it.

        Raises
        ------
        TokenRequired
            If the app has no session key (yet).
        TypeError
            If the subject is no string.
        ValueError
            If it is empty or ``anonymous``, or a claim has a reserved name.
        """
        import jwt  # noqa: PLC0415 - not every app has sessions

        keys = self._held()
        if not isinstance(subject, str):
            raise TypeError(f"a session's subject is a string, not {type(subject).__name__}")
        if not subject or subject == ANONYMOUS:
            raise ValueError(f"a session needs a subject, and {ANONYMOUS!r} is nobody's name")
        taken = sorted(RESERVED.intersection(claims or ()))
        if taken:
            raise ValueError(f"the claims {', '.join(taken)} are set by the engine")
        now = self._clock()
        version = self._signing_version(keys, now)
        payload = {
            **(claims or {}),
            "iss": self._slug,
            "aud": self._slug,
            "sub": subject,
            "iat": now,
            "exp": now + self._lifetime,
            "jti": secrets.token_urlsafe(16),
        }
        return jwt.encode(payload, keys.keys[version], ALGORITHM, headers={"kid": str(version)})

    def verify(self, token: str | None) -> Session:
        """Return the session that a token stands for.

        Raises
        ------
        TokenRequired
            If the app has no session key (yet).
        SessionRequired
            If there is no token.
        SessionInvalid
            If it is malformed, expired, another app's, or signed with a key that is not accepted.
        """
        import jwt  # noqa: PLC0415 - as above

        keys = self._held()
        if not token:
            raise SessionRequired("there is no session; log in first")
        try:
            kid = str(jwt.get_unverified_header(token).get("kid", ""))
            known = kid.isascii() and kid.isdecimal()
            key = keys.accepted(int(kid), self._clock()) if known else None
            if key is None:
                raise SessionInvalid(
                    "the session was signed with a key that is no longer accepted; log in again"
                )
            payload = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._slug,
                issuer=self._slug,
                leeway=LEEWAY_SECONDS,
                options={"require": ["iss", "aud", "sub", "iat", "exp", "jti"]},
            )
        except jwt.ExpiredSignatureError:
            raise SessionInvalid("the session has expired; log in again") from None
        except (jwt.InvalidTokenError, ValueError):
            # `from None`: PyJWT's messages repeat parts of the token.
            raise SessionInvalid("the session is not valid; log in again") from None
        if payload["sub"] == ANONYMOUS:
            raise SessionInvalid("the session is nobody's; log in again")
        return Session(
            subject=payload["sub"],
            claims={name: value for name, value in payload.items() if name not in RESERVED},
            expires_at=datetime.fromtimestamp(payload["exp"], UTC),
            id=payload["jti"],
        )

    def _signing_version(self, keys: SessionKeys, now: datetime) -> int:
        """Return the newest version that is accepted and published; if none is, the newest."""
        published = (version for version, at in self._published.items() if at <= now)
        usable = (version for version in published if keys.accepted(version, now) is not None)
        return max(usable, default=keys.current)

    def _held(self) -> SessionKeys:
        if self._keys is None:
            raise TokenRequired(f"app {self._slug!r} has no session key yet")
        return self._keys


def cookie_name(slug: str) -> str:
    """Return the name of an app's session cookie; apps on one host must not share it."""
    return f"mdb_session_{slug}"


def derive_session_key(token: str, slug: str) -> bytes:
    """Return a session key made from the app's secret (HKDF-SHA-256, RFC 5869).

    It cannot be turned back into the secret, and is of no use as one.
    """
    # Every binding of today's holds a session key, so that this is for earlier ones.
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    kdf = HKDF(SHA256(), length=32, salt=slug.encode(), info=b"mdb-engine session key v1")
    return kdf.derive(token.encode())


def _checked(key: bytes, version: int) -> bytes:
    if len(key) < SHORTEST_KEY_BYTES:
        raise InvalidToken(
            f"the session key of version {version} has fewer than {SHORTEST_KEY_BYTES} bytes"
        )
    return key
