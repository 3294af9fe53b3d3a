"""Programs that the tests of the chart need, compiled outside of any test's time limit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from devcluster import build
from devcluster.progress import Progress

# The generator of the documentation, which reads the chart's values; no package of the workspace.
sys.path.append(str(Path(__file__).resolve().parents[3] / "docs"))


@pytest.fixture(scope="session", autouse=True)
def _helm() -> None:
    build.ensure(build.HELM, Progress())


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Give Prometheus' own checker of rules."""
    return build.ensure(build.PROMTOOL, Progress()) / "promtool"


@pytest.fixture(scope="session")
def kstatus() -> Path:
    """Give what Flux makes of a status."""
    return build.ensure(build.KSTATUS, Progress()) / "kstatus"
