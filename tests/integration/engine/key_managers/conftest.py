"""One key manager of each kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.key_managers import KINDS, Service, serve

from mdb_engine.key_managers import RemoteKeyManager


@pytest.fixture(params=KINDS)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    with serve(request.param, tmp_path) as made:
        yield made


@pytest.fixture
async def manager(service: Service) -> AsyncIterator[RemoteKeyManager]:
    made = service.manager()
    yield made
    await made.aclose()
