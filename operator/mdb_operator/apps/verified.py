"""Which apps were found right, and from what: nobody has to find out twice what cannot differ.

A full look reads an app's rows, its users, its role, its collections, its indexes and its Secret.
All of that follows from the MdbApp, from three rows and from the certificates. Whoever changes one
of these is seen: the watches tell of the MdbApp and of the Secret, each row has a revision, and
whatever else happens (another database, a new key, an owner's consent, a version of the secret that
ends) wakes the app for a full look. So where nothing is known to have happened, one command that
reads the revisions says as much as a full look.

What somebody changes by hand in MongoDB is not seen so. Users and roles the sweep compares, in
hundreds; collections and indexes wait for the next full look, which is due once a day.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from mdb_engine.registry.models.app import Revisions
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.mongodb.certificates import Certificates

__all__ = ["FULL_LOOK_SECONDS", "Verified"]

FULL_LOOK_SECONDS = 86_400.0
"""How long nothing but what can be seen is looked at: a day. Each app's is up to a half shorter, so
that apps which a start looked at together do not come back together."""

FRESH_SECONDS = 2.0
"""How long the revisions count as just read: the echo of a run's own writes needs no command."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A full look that found everything right."""

    app: MdbAppResource  # as it was afterwards, with its status
    revisions: Revisions
    certificates: Certificates
    due: datetime | None  # when a version of the secret ends or begins, by MongoDB's clock
    read_at: float
    full_again_at: float


class Verified:
    """The last full look at each app, if it found everything right."""

    def __init__(
        self,
        certificates: Callable[[], Certificates],
        now: Callable[[], datetime],  # MongoDB's
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_certificates = certificates
        self._now = now
        self._last_certificates = Certificates()
        self._clock = clock
        self._looks: dict[AppKey, _Look] = {}

    def note(
        self,
        app: MdbAppResource,
        revisions: Revisions,
        certificates: Certificates,
        due: datetime | None,
    ) -> None:
        """Take in that everything is right that follows from these, until something is due.

        The certificates are those of the look's beginning: what is mounted while it goes on, it
        may have missed.
        """
        now = self._clock()
        full_again = now + FULL_LOOK_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
        self._looks[app.key] = _Look(app, revisions, certificates, due, now, full_again)

    def forget(self, key: AppKey) -> None:
        """Take in that the app has to be looked at in full, or is gone."""
        self._looks.pop(key, None)

    def has(self, key: AppKey) -> bool:
        """Tell whether the last full look at the app found everything right."""
        return key in self._looks

    def covers(self, app: MdbAppResource) -> bool:
        """Tell whether the MdbApp and the certificates are those of a look that is not too old."""
        look = self._looks.get(app.key)
        return (
            look is not None
            and look.app.means_the_same_as(app)
            and self._clock() < look.full_again_at
            and (look.due is None or self._now() < look.due)
            and look.certificates == self.certificates
        )

    def is_fresh(self, key: AppKey) -> bool:
        """Tell whether the revisions were read a moment ago."""
        look = self._looks.get(key)
        return look is not None and self._clock() < look.read_at + FRESH_SECONDS

    def holds(self, key: AppKey, revisions: Revisions | None) -> bool:
        """Tell whether the rows are still at the revisions of the look."""
        look = self._looks.get(key)
        return look is not None and look.revisions == revisions

    @property
    def certificates(self) -> Certificates:
        """Those of now; one object for all apps, since a bundle of authorities has 200 kB."""
        now = self._read_certificates()
        if now != self._last_certificates:
            self._last_certificates = now
        return self._last_certificates
