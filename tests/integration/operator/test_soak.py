"""`make soak-operator`, for a minute: nothing breaks, nothing is refused, nothing piles up."""

from __future__ import annotations

from pathlib import Path

import pytest
from soak.__main__ import Plan, soaked
from support.clusters import Cluster
from support.mongo import Server


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_random_changes_and_kills_for_a_minute_break_nothing(
    control_plane: Cluster, mongo_auth_server: Server, tmp_path: Path
) -> None:
    plan = Plan(60.0, apps=20, pods=3, checks=1, overlap=15.0)
    found, series, problems = soaked(plan, control_plane, mongo_auth_server, tmp_path)
    assert problems == []
    assert found["checks"] == 1
    assert sum(found["kills"].values()) >= 8
    assert len(found["changes"]) >= 8
    assert found["pods"]["reads"] > 500
    assert {one.kind for one in series} == {"operator", "pod", "mongod"}
    judged = {(one["figure"]) for one in found["growth"] if one["most"] is not None}
    assert judged >= {"asyncio tasks", "connections", "file descriptors", "threads"}
