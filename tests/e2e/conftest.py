"""What the tests of the whole product share: one installation, and the URLs of both apps."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support import multi_app
from support.clusters import Cluster
from support.multi_app import World
from support.shared import TestRun, is_worker

from devcluster.paths import NAME_VARIABLE
from devcluster.progress import Progress
from devcluster.providers import select


@pytest.fixture(scope="session")
def world(cluster: Cluster) -> World:
    """Give the run's installation: the operator, a MongoDB, and both apps ready."""
    return multi_app.provide(cluster)


@pytest.fixture(scope="session")
def click_tracker(world: World) -> Iterator[str]:
    """Give ClickTracker's URL."""
    with multi_app.forwarded(world, "click-tracker") as url:
        yield url


@pytest.fixture(scope="session")
def dashboard(world: World) -> Iterator[str]:
    """Give Dashboard's URL."""
    with multi_app.forwarded(world, "dashboard") as url:
        yield url


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    """Remove the installation from a cluster of the user's; ours goes as a whole."""
    run = TestRun.current()
    name = os.environ.get(NAME_VARIABLE)
    if is_worker() or name is None or not (run.path / "multi-app.done").exists():
        return
    provider = select(name, Progress(), starting=False)
    cluster = Cluster(provider, provider.kubeconfig(), run)
    multi_app.remove(cluster, run.name.removeprefix("test-"))
