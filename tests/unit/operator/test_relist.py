"""The list of MdbApps that is compared with what the watch has shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from mdb_operator.apps.cache import MdbAppCache
from mdb_operator.apps.relist import Relist
from mdb_operator.exceptions import OperatorError
from mdb_operator.kubernetes.client import KubeObject
from mdb_operator.kubernetes.mdbapps import MdbAppStore
from mdb_operator.process.probes import Heartbeat

HOUR = 3600.0


class Store:
    """An API server with one MdbApp, which is restored after the first list."""

    scopes = (None,)

    def __init__(self) -> None:
        self._versions = iter(["100", "40"])

    async def metadata_pages(self, _: str | None) -> AsyncIterator[KubeObject]:
        version = next(self._versions)
        metadata = {"namespace": "n", "name": "a", "uid": "u", "resourceVersion": version}
        yield {"metadata": {"resourceVersion": version}, "items": [{"metadata": metadata}]}


async def test_a_restore_is_found_while_the_watch_is_behind() -> None:
    relist = Relist(
        cast("MdbAppStore", Store()),
        MdbAppCache(),
        lambda app: pytest.fail(f"{app} is lost"),
        Heartbeat(HOUR),
        interval=0.01,
        limit=HOUR,
    )
    with pytest.raises(OperatorError, match="it was restored"):
        await asyncio.wait_for(relist.run(), timeout=5)
