"""Whether the active master key is the one that its id says, before anything new is sealed with it.

A key that was replaced by another under its own id seals without complaint, and what it sealed is
lost when the right one comes back. So a key that has sealed something must open it first. Any of
it will do: one row that somebody damaged is no reason to refuse all new apps.
"""

from __future__ import annotations

from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.key_manager import KeyManager
from mdb_engine.exceptions import MasterKeyError, RowDamaged
from mdb_engine.registry.registry import Registry

__all__ = ["KeyCheck"]


class KeyCheck:
    """Checks the active key once, and again whenever it, or its manager, is another."""

    def __init__(self, registry: Registry, encryption: EnvelopeEncryptionService) -> None:
        self._registry = registry
        self._encryption = encryption
        self._right: tuple[KeyManager, str] | None = None

    async def require(self) -> None:
        """Do nothing if the active key opens what was sealed with it, or if nothing was.

        Raises
        ------
        MasterKeyError
            If there is no active key, or it opens nothing of that, or nobody can say.
        """
        manager = self._encryption.key_manager
        active, problem = await manager.active_key_id(), None
        if self._right == (manager, active):
            return
        for app in await self._registry.all():
            try:
                sealed = await self._registry.secrets.get(app.slug)
            except RowDamaged:
                continue
            if sealed is None or sealed.current.envelope.key_id != active:
                continue
            try:
                await self._registry.secrets.reveal(app.slug)
            except MasterKeyError as error:
                problem = problem or error
            else:
                break
        else:
            if problem is not None:
                raise problem
        self._right = manager, active
