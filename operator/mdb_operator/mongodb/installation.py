"""Keeps a database to one installation of the operator.

An operator of another cluster knows none of the MdbApps that a database's registrations are from.
It would take them for abandoned and revoke them, which is an outage of every app. So whoever leads
first leaves the name of its installation in the database, and an operator of any other does nothing
but say so, until an administrator has it take the database over.

The name is the UID of the operator's own namespace with the name of its Lease. Both outlive an
upgrade, a new installation of the chart, the Lease itself and the master key; no two clusters share
the UID, and no two installations of one namespace the Lease. It costs the right to read one
namespace, which a Role in that namespace can give. Where even that is missing there is a setting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

import structlog

from mdb_engine.core.clock import utcnow
from mdb_engine.exceptions import DatabaseUnavailable
from mdb_engine.registry.models.installation import Installation
from mdb_engine.registry.storage.installation import InstallationStore
from mdb_operator.exceptions import (
    DatabaseHeld,
    Forbidden,
    KubernetesError,
    NotFound,
    OperatorError,
)
from mdb_operator.kubernetes.client import KubeClient, metadata_of
from mdb_operator.kubernetes.resources import NAMESPACES

__all__ = ["InstallationGuard", "identify"]

_UNKNOWN = (
    "the operator may not read its own namespace. Set MDB_OPERATOR_INSTALLATION (installation in"
    " the chart), or let its ServiceAccount get that namespace"
)

_log = structlog.get_logger(__name__)


async def identify(
    kube: KubeClient, namespace: str, lease: str, setting: str | None
) -> Installation | None:
    """Return which installation this is; None where that cannot be found out.

    The setting is what an administrator calls it, which then is its identity.

    Raises
    ------
    KubernetesError
        If it can be found out, but not now.
    """
    if setting is not None:
        return Installation(setting, namespace)
    try:
        found = await kube.get(NAMESPACES, None, namespace, metadata_only=True)
    except (Forbidden, NotFound):
        return None
    return Installation(f"{metadata_of(found)['uid']}/{lease}", namespace)


class InstallationGuard:
    """Stands before everything that writes to the database."""

    def __init__(
        self,
        store: InstallationStore,
        who: Callable[[], Awaitable[Installation | None]],
        database: str,
        on_claim: Callable[[], None] = lambda: None,
        # Told when it is known of which installations this one takes over the apps.
        on_adoption: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._who = who
        self._database = database
        self._on_claim = on_claim
        self._on_adoption = on_adoption
        self._own: Installation | None = None
        self._warned = False
        self._formers: frozenset[str] | None = None

    @property
    def own(self) -> str | None:
        """The identity of this installation; None where that is not known, or not yet."""
        return None if self._own is None else self._own.identity

    @property
    def formers(self) -> frozenset[str] | None:
        """The installations whose database and apps this one adopted; None until that is known."""
        return self._formers

    async def identify(self) -> str | None:
        """Return the identity of this installation; None where it cannot be told.

        Raises
        ------
        DatabaseUnavailable
            If the API server does not answer.
        """
        if self._own is None and not self._warned:
            self._own = await self._ask()
        return self.own

    async def require(self, *, claim: bool = True) -> None:
        """Return if the database is this installation's; it becomes that where it is nobody's.

        Raises
        ------
        DatabaseHeld
            If it is another installation's, or somebody's while this one does not know its name.
        DatabaseUnavailable
            If MongoDB or the API server does not answer.
        """
        held = await self._store.get()
        if self._own is None and (held is not None or not self._warned):
            self._own = await self._ask()
        if held is None and self._own is not None and claim:
            if await self._store.insert(replace(self._own, claimed_at=utcnow())):
                _log.info("Claimed the database", database=self._database, by=str(self._own))
                self._on_claim()
                self._learn(())
                return
            held = await self._store.get()
        if held is not None and (self._own is None or held.identity != self._own.identity):
            raise DatabaseHeld(self._refusal(held), held)
        self._learn(held.adopted_from if held is not None else ())

    async def adopt(self, former: str | None) -> Installation | None:
        """Make the database this installation's, for an administrator, and the former's MdbApps.

        Where the database is this installation's already, it is the MdbApps alone: those of one
        that went away without releasing them, and whose database is lost. Returns whose the
        database was until now; None where that is not another installation.

        Raises
        ------
        OperatorError
            If this installation does not know its name.
        DatabaseHeld
            If the database is another's than ``former``'s.
        VersionConflict
            If it was taken over by another at the same time.
        """
        own = self._own = await self._ask()
        if own is None:
            raise OperatorError(f"It cannot be told which installation this is: {_UNKNOWN}.")
        held = await self._store.get()
        if held is None or held.identity == own.identity:
            await self.require()
            held = await self._store.get()
            if held is not None and former not in (None, own.identity, *held.adopted_from):
                adopted = (*held.adopted_from, str(former))
                await self._store.replace(replace(held, adopted_from=adopted), own.identity)
            return None
        if held.identity != former:
            raise DatabaseHeld(self._refusal(held), held)
        formers = dict.fromkeys((*held.adopted_from, held.identity))
        formers.pop(own.identity, None)  # it may have been this installation's before
        await self._store.replace(
            replace(own, claimed_at=utcnow(), adopted_from=tuple(formers)), held.identity
        )
        return held

    async def _ask(self) -> Installation | None:
        try:
            own = await self._who()
        except KubernetesError as error:
            raise DatabaseUnavailable(
                "It cannot be told yet whether the database is this installation's:"
                f" {error.message}"
            ) from None
        if own is None and not self._warned:
            self._warned = True
            _log.warning(
                f"Nothing keeps another installation from this database: {_UNKNOWN}",
                database=self._database,
            )
        return own

    def _learn(self, formers: Iterable[str]) -> None:
        known, self._formers = self._formers, frozenset(formers)
        if known != self._formers:
            self._on_adoption()

    def _refusal(self, held: Installation) -> str:
        other = (
            f"and this is installation {self._own}"
            if self._own is not None
            else f"and it cannot be told which installation this is: {_UNKNOWN}"
        )
        return (
            f"The database {self._database!r} is managed by installation {held}, {other}. Nothing"
            " is written. Give each installation a database of its own (mongodb.database). To take"
            " this one over for good, after a move to another cluster for example, end the other"
            f" installation and run: mdb-operator adopt-database --from={held.identity}"
        )
