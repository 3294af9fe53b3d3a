"""An operator of this process, whose every call can be made to fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import common
from pymongo.uri_parser import parse_uri

from mdb_operator.apps.conditions import Isolation
from mdb_operator.apps.controller import Controller
from mdb_operator.apps.workers import Again
from mdb_operator.config import Config
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.resources import MDBAPPS, AppKey
from mdb_operator.process.context import MONGO_OPTIONS, open_context
from mdb_operator.process.factory import Factory
from support.faults import Faults, MongoProxy
from support.installation import MASTER_KEY_SECRET, Installation
from support.waiting import wait_until_async

__all__ = ["LiveOperator", "live_operator"]


class LiveOperator:
    """A controller whose calls go through `Faults`.

    Parameters
    ----------
    here
        The installation that it is of.
    factory
        Makes its stores.
    faults
        What its calls go through.
    """

    def __init__(self, here: Installation, factory: Factory, faults: Faults) -> None:
        self.here = here
        self.factory = factory
        self.faults = faults
        self.controller = Controller(factory)
        self.unexpected: list[Exception] = []
        self._known: dict[str, dict[str, Any]] = {}

    def see(self, name: str) -> None:
        """Show the controller an MdbApp as it stands, or that it is gone."""
        body = self.here.get("MdbApp", name)
        known = self._known.get(name)
        if known is not None and (
            body is None or body["metadata"]["uid"] != known["metadata"]["uid"]
        ):
            self.controller.see("DELETED", self._known.pop(name))
        if body is not None:
            self._known[name] = body
            self.controller.see("MODIFIED", body)

    async def look(self, name: str) -> Again:
        """Reconcile an app as it stands in the API server, as a worker does.

        What a reconcile lets through is a failure to a worker, and is kept in `unexpected`.
        """
        self.see(name)
        try:
            return await self.controller.reconcile(AppKey(self.here.apps, name))
        except Exception as error:  # noqa: BLE001 - as a worker
            self.unexpected.append(error)
            return Again(failed=True)

    async def settle(self, *names: str, most: int = 20) -> None:
        """Reconcile apps for as long as the operator would do so by itself, because it failed."""
        for name in names:
            again = await self.look(name)
            for number in range(most):
                if not again.failed:
                    break
                # What others do takes time: the garbage collector learns of a CRD in 30 s.
                await asyncio.sleep(min(again.seconds or 0.0, 0.05 * 2**number, 4.0))
                again = await self.look(name)
            else:
                pytest.fail(f"{name} never settles: {again}; {self.here.get('MdbApp', name)}")

    async def quiet(self, seconds: float = 1.0) -> None:
        """Wait until it has nothing to do any more."""
        await wait_until_async(
            lambda: time.monotonic() - self.faults.last > seconds,
            deadline=30,
            message=lambda: f"the end of all work; its last calls: {self.faults.calls[-5:]}",
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Let it work by itself, with a watch that no fault reaches."""
        kube = await KubeClient.connect(kubeconfig=self.here.cluster.kubeconfig)

        async def watch() -> None:
            version = ""
            async for page in kube.pages(MDBAPPS, self.here.apps):
                version = page["metadata"]["resourceVersion"]
                for body in page["items"]:
                    self.controller.see(None, body)
            async for event in kube.watch(MDBAPPS, self.here.apps, resource_version=version):
                if event["type"] != "BOOKMARK":
                    self.controller.see(event["type"], event["object"])

        tasks = [asyncio.create_task(work) for work in (self.controller.run(), watch())]
        try:
            yield
            assert not any(task.done() for task in tasks), "the operator ended by itself"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await kube.aclose()


def _public(uri: str) -> SecretStr:
    """Return the way of the apps to MongoDB, through which no fault reaches them."""
    host, port = parse_uri(uri)["nodelist"][0]
    return SecretStr(f"mongodb://{host}:{port}/?directConnection=true")


@asynccontextmanager
async def live_operator(
    here: Installation, monkeypatch: pytest.MonkeyPatch, isolation: Isolation = "database"
) -> AsyncIterator[LiveOperator]:
    """Start an operator of this process, under the rights of its own account and MongoDB user."""
    faults = Faults()
    # A driver that tries everything twice would hide what the operator makes of one failure.
    monkeypatch.setitem(MONGO_OPTIONS, "retryWrites", False)  # noqa: FBT003 - an option's value
    # It asks a server that hung up again after half a second at the earliest.
    monkeypatch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.01)
    async with MongoProxy(here.uri, faults).serving() as proxy:
        config = Config(
            namespace=here.namespace,
            kubeconfig=here.directory / "kubeconfig",
            watch_namespaces=here.apps,
            mongodb_uri=SecretStr(proxy.uri),
            mongodb_apps_uri=_public(here.uri),
            mongodb_database=here.database,
            isolation=isolation,
            master_key_secret=MASTER_KEY_SECRET,
        )
        async with open_context(config) as context:
            await context.master_keys.refresh()
            operator = LiveOperator(here, Factory(context), faults)
            await operator.controller.gate.look()
            faults.attach(context.kube)
            yield operator
