"""A home of a test's own for clusters that it starts, kills and removes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machines import home_with_cache

from devcluster import build, packages
from devcluster.progress import Progress


@pytest.fixture(scope="session")
def _programs() -> None:
    """Install and compile what is not there yet, outside of any test's time limit."""
    if os.geteuid() == 0:
        packages.require(packages.NODE, Progress())
    for program in (build.KUBERNETES, build.HELM, build.COREDNS, build.PAUSE):
        build.ensure(program, Progress())


@pytest.fixture
def home(_programs: None) -> Iterator[Path]:
    """Give a directory for state and cache; pytest keeps its own after the test, this one goes."""
    directory = Path(tempfile.mkdtemp(prefix="devcluster-"))
    try:
        yield home_with_cache(directory)
    finally:
        shutil.rmtree(directory)
