"""Whose an MdbApp is: one installation handles it, and says so in ``status.installation``.

The spec names a class of installations. Among those of a class the first to come claims the app,
with a write that holds only for the object as it was read, so that of two at once one loses. The
other says so once and stays away: two that repair one Secret would undo each other for good. Where
the class changes, the installation that had the app ends the access it gave and then gives the
claim up; the finalizer stays for whoever comes next.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

import structlog

from mdb_engine.exceptions import DatabaseUnavailable
from mdb_engine.registry.models.app import Owner
from mdb_operator.apps.cache import MdbAppCache
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.kubernetes.events import EventRecorder
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.mongodb.installation import InstallationGuard
from mdb_operator.process.metrics import Metrics

__all__ = ["Others", "Ours", "Ownership", "handled_by"]

HAND_OVER_SECONDS = 5.0
"""How long an app may be another's before that is worth a word.

After a change of class the installation that had the app first ends all access that it gave, which
is promised within this time.
"""

EVENT_REASON = "OtherInstallation"
"""Of the event that says once that another installation handles an app of our class."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ours:
    """An app that this installation handles."""

    claim: bool = False  # to be done first: nobody has it, or one did whose database is ours now


@dataclass(frozen=True, slots=True)
class Others:
    """An app that this installation leaves alone."""

    release: bool = False  # it had the app until the class changed, and has to end access and claim
    rival: str | None = None  # the installation of the same class that handles it, if that is why


def handled_by(
    app: MdbAppResource, operator_class: str, identity: str | None, formers: Collection[str]
) -> Ours | Others:
    """Return whose an app is.

    An installation without an identity cannot tell which it is, and so claims nothing. The formers
    are those that its database was adopted from.
    """
    holder = app.installation
    had = holder is not None and holder in {identity, *formers}
    if app.operator_class != operator_class:
        return Others(release=had)
    if holder is not None and not had:
        return Others(rival=holder)
    # A deletion needs no claim, and where the namespace goes, the right to write one went first.
    return Ours(claim=identity not in (None, holder) and not app.deleting)


@dataclass(slots=True)
class _Rival:
    """An app of our class that another installation has: as last seen, since when, and if told."""

    app: MdbAppResource
    since: float
    told: bool = False


class Ownership:
    """Claims the apps of this installation and knows those of others."""

    def __init__(
        self,
        *,
        operator_class: str,
        guard: InstallationGuard,
        mdbapps: MdbAppStore,
        cache: MdbAppCache,  # the apps of this installation; those of others leave it
        events: EventRecorder,
        metrics: Metrics,
    ) -> None:
        self._class = operator_class
        self._guard = guard
        self._mdbapps = mdbapps
        self._cache = cache
        self._events = events
        self._metrics = metrics
        self._rivals: dict[AppKey, _Rival] = {}

    def admits(self, app: MdbAppResource) -> bool:
        """Return whether an app that a watch shows has to be looked at.

        Not if it is of another class and this installation never had it, nor if it is known that
        a rival handles it. As long as it cannot be told which installation this is, an app that
        anybody claims is looked at.
        """
        verdict = handled_by(app, self._class, self._guard.own, self._guard.formers or ())
        known = self._rivals.get(app.key)
        if isinstance(verdict, Others) and verdict.rival is not None:
            if known is None or not _is_same(known.app, app):
                return True
            known.app = app
            return not known.told
        self.forget(app)
        if isinstance(verdict, Ours) or verdict.release or self._cache.get(app.key) is not None:
            return True
        return app.installation is not None and self._guard.own is None

    async def claim(self, app: MdbAppResource) -> MdbAppResource | Others:
        """Return the app as it is now that it is this installation's, or that it is another's.

        What is another's leaves the cache, unless there is something to release first, or it may be
        on its way from the other to us: see `look_again`.

        Raises
        ------
        Conflict, KubernetesError
            If it could not be claimed now.
        NotFound
            If it is gone.
        DatabaseUnavailable
            If MongoDB has not said yet whose claims are to be taken over.
        """
        identity = await self._guard.identify()
        verdict = handled_by(app, self._class, identity, self._guard.formers or ())
        if isinstance(verdict, Ours):
            self.forget(app)
            return await self._write_claim(app, identity) if verdict.claim else app
        if verdict.rival is not None and self._guard.formers is None:
            raise DatabaseUnavailable(
                f"It cannot be told yet whether installation {verdict.rival} was adopted"
            )
        if verdict.rival is not None:
            await self._take_in(app, verdict.rival)
        elif not verdict.release:
            self._drop(app)
        return verdict

    def look_again(self, app: MdbAppResource) -> float | None:
        """Return in how many seconds to look again at an app that another has; None if never."""
        known = self._rivals.get(app.key)
        if known is None or known.told:
            return None
        return max(0.0, known.since + HAND_OVER_SECONDS - time.monotonic())

    async def release(self, app: MdbAppResource) -> None:
        """Give up the claim of an app whose class has changed, with the status that nobody keeps.

        The access that it was given has to be ended before.

        Raises
        ------
        Conflict, KubernetesError
            If it could not be released now.
        """
        owner = Owner(*app.key, app.uid)
        await self._mdbapps.apply_status(
            owner, app.status, {}, resource_version=app.resource_version
        )
        self._metrics.count_write("kubernetes", "release")
        self._drop(app)
        _log.info(
            "Handed an MdbApp over to another class",
            namespace=app.key.namespace,
            app=app.key.name,
            operator_class=app.operator_class,
        )

    def forget(self, app: MdbAppResource) -> None:
        """Take in that an app is gone, or that no rival has it any more."""
        if self._rivals.pop(app.key, None) is not None:
            self._metrics.forget_rival(app.key)

    def reconsider(self) -> list[AppKey]:
        """Put the apps of rivals back into the cache to be looked at again; return which."""
        apps = [known.app for known in self._rivals.values()]
        for app in apps:
            self._cache.update(app)
        return [app.key for app in apps]

    async def _write_claim(self, app: MdbAppResource, identity: str | None) -> MdbAppResource:
        status = {**app.status, "installation": identity}
        written = await self._mdbapps.apply_status(
            Owner(*app.key, app.uid), app.status, status, resource_version=app.resource_version
        )
        self._metrics.count_write("kubernetes", "claim")
        if written is None:
            return app
        self._cache.absorb(written)
        return MdbAppResource.from_body(written)

    async def _take_in(self, app: MdbAppResource, rival: str) -> None:
        known, now = self._rivals.get(app.key), time.monotonic()
        if known is None or not _is_same(known.app, app):
            known = self._rivals[app.key] = _Rival(app, now)
        if not known.told and now < known.since + HAND_OVER_SECONDS:
            return
        self._drop(app)
        if known.told:
            return
        known.told = True
        self._metrics.show_rival(app.key, rival)
        note = (
            f"Installation {rival} handles this MdbApp, and {self._guard.own or 'this one'} is of"
            f" the same class, {self._class!r}: it stays away. Give each installation a class of"
            " its own (operatorClass), or namespaces of its own (watchNamespaces). If the other is"
            f" gone for good, run here: mdb-operator adopt-database --from={rival}"
        )
        _log.warning(note, namespace=app.key.namespace, app=app.key.name)
        await self._events.record(
            Owner(*app.key, app.uid), "Warning", reason=EVENT_REASON, action="Claim", note=note
        )

    def _drop(self, app: MdbAppResource) -> None:
        self._cache.drop(app)
        self._metrics.forget_app(app.key)


def _is_same(one: MdbAppResource, other: MdbAppResource) -> bool:
    """Whether both are the same app in the same hands."""
    return (one.uid, one.installation) == (other.uid, other.installation)
