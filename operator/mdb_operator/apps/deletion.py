"""Deleting an app: access first, then its secret, then its data by policy, then the finalizer.

The order means that whatever an interrupted deletion leaves behind opens nothing any more. With
MongoDB down a deletion waits, because a registration that nobody can revoke would go on working;
an administrator can force it with an annotation, and what stays then counts as a tombstone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from mdb_engine.exceptions import DatabaseUnavailable
from mdb_engine.models.app import AppState, Owner
from mdb_engine.services.registry import Registry
from mdb_operator.apps.conditions import ConditionType, Reason
from mdb_operator.apps.outcome import Failure
from mdb_operator.apps.plan import Step
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.constants import ANNOTATION_FORCE_DELETE, FINALIZER
from mdb_operator.exceptions import Forbidden
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.kubernetes.secrets import SecretStore
from mdb_operator.mongodb.gate import DatabaseGate
from mdb_operator.mongodb.users import DatabaseUsers

__all__ = ["Deletion"]

RETRY_SECONDS = 10.0
"""How long a deletion that waits for MongoDB goes without another attempt."""


class Deletion:
    """Deletes apps.

    Parameters
    ----------
    registry
        Where they are registered.
    users
        Their users in MongoDB.
    mdbapps, secrets
        The objects of the API server.
    gate
        Whether MongoDB can be used.
    observer
        Told after every step, with whether it wrote something.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        users: DatabaseUsers,
        mdbapps: MdbAppStore,
        secrets: SecretStore,
        gate: DatabaseGate,
        observer: Callable[[Step, bool], None],
    ) -> None:
        self._registry = registry
        self._users = users
        self._mdbapps = mdbapps
        self._secrets = secrets
        self._gate = gate
        self._observer = observer

    async def delete(self, app: MdbAppResource) -> Failure | None:
        """Do all steps; return why it has to wait, or None when the app is gone.

        Raises
        ------
        Conflict, KubernetesUnavailable
            To be tried again.
        """
        if not app.finalized:
            return None
        try:
            await self._leave_database(app)
        except DatabaseUnavailable as error:
            if app.annotations.get(ANNOTATION_FORCE_DELETE) != "true":
                return Failure(
                    ConditionType.REGISTERED,
                    Reason.DELETING,
                    f"The deletion waits for MongoDB: {error.message.rstrip('.')}. It goes on by"
                    " itself. To finish it without revoking the app's access in MongoDB set the"
                    f' annotation {ANNOTATION_FORCE_DELETE}: "true".',
                    status="Unknown",
                    retry_seconds=RETRY_SECONDS,
                )
        await self._unproject(app)
        await self._let_go(app)
        return None

    async def bury(self, app: MdbAppResource) -> bool:
        """Revoke an app whose resource went away although our finalizer had to be respected.

        It becomes a tombstone unless its deletion had begun: taking a finalizer off by hand is no
        request to delete data. Returns whether there was something to do.
        """
        owner = _owner(app)
        record = await self._registry.get(app.slug)
        if record is None or record.owner != owner or record.state is AppState.TOMBSTONE:
            return False
        await self._users.drop(app.slug)
        return await self._registry.bury(app.slug, owner)

    async def _leave_database(self, app: MdbAppResource) -> None:
        self._gate.require()
        owner = _owner(app)
        if not await self._registry.revoke(app.slug, owner):
            return  # the slug is not this app's, or everything was done before
        self._observer(Step.REVOKE, True)  # noqa: FBT003 - an observer's second argument
        readers = await self._registry.neighbours(app.slug)
        wrote = await self._users.drop(app.slug)
        wrote |= await self._users.refresh_roles(
            reader.slug for reader in readers if app.slug in reader.spec.read_scopes
        )
        self._observer(Step.DROP_USERS, wrote)
        delete_data = app.spec.get("deletionPolicy") == "Delete"
        wrote = await self._registry.erase(app.slug, owner, delete_data=delete_data)
        self._observer(Step.ERASE, wrote)

    async def _unproject(self, app: MdbAppResource) -> None:
        bound = (app.status.get("binding") or {}).get("name")
        wrote = False
        for name in dict.fromkeys([app.secret_name, *([bound] if bound else [])]):
            # Where the namespace is being deleted our Role in it may be gone already; the garbage
            # collector then removes the Secret, of which the app is the owner.
            with suppress(Forbidden):
                wrote |= await self._secrets.delete_if_ours(app.key.namespace, name, app.uid)
        self._observer(Step.UNPROJECT, wrote)

    async def _let_go(self, app: MdbAppResource) -> None:
        obj = await self._mdbapps.get(*app.key)
        if obj is None or obj["metadata"]["uid"] != app.uid:
            return
        written = await self._mdbapps.remove_finalizer(obj, FINALIZER)
        self._observer(Step.LET_GO, written is not None)


def _owner(app: MdbAppResource) -> Owner:
    return Owner(app.key.namespace, app.key.name, app.uid)
