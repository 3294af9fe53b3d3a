"""Keep a socket that a driver forgot from failing a test that has nothing to do with it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def sockets_swept() -> Iterator[None]:
    """Collect the sockets that PyMongo leaves when it is closed amid an attempt to connect.

    A test of a server that cannot be reached ends like that. It also has to ignore the warning,
    with ``@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")``.
    """
    yield
    gc.collect()
