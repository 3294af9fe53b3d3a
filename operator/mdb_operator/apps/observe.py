"""See what there is of an app, in MongoDB and in the API server, before anything is decided."""

from __future__ import annotations

from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.services.registry import Registry
from mdb_operator.apps.plan import Observation
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.mongodb.gate import DatabaseGate

__all__ = ["Observer"]


class Observer:
    """Observes apps.

    Parameters
    ----------
    registry
        What is registered.
    gate
        Whether MongoDB can be asked at all.
    """

    def __init__(self, registry: Registry, gate: DatabaseGate) -> None:
        self._registry = registry
        self._gate = gate

    async def observe(self, app: MdbAppResource) -> Observation:
        """Return what is to be known about an app.

        The Secret is not part of it: it is compared with what it has to be in the same request
        that would write it, because anything seen earlier could be out of date by then.

        Raises
        ------
        ManifestInvalid
            If the spec is one that the API server should have refused.
        DatabaseUnavailable
            If MongoDB cannot be asked, and has to be.
        """
        spec = MdbAppSpec.parse(app.spec)
        if spec.suspend:
            return Observation(app, spec)
        self._gate.require()
        record = await self._registry.get(spec.slug)
        secrets = await self._registry.secrets.get(spec.slug)
        return Observation(app, spec, record, secrets)
