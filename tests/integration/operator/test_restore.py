"""After a restore of etcd generations and resource versions are lower than what was seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from support.installation import Installation
from support.live_operator import live_operator

LATER = 5


def remember_a_later_generation(here: Installation, slug: str) -> None:
    """Let the database know of generations that the restored etcd does not."""
    result = here.mongo["apps_config"].update_one(
        {"slug": slug}, {"$inc": {"generation": LATER, "revision": 1}}
    )
    assert result.modified_count == 1


def test_an_app_of_a_restored_etcd_is_applied_as_it_is(running: Installation) -> None:
    running.apply("restored", collections=[{"name": "c"}])
    running.wait_condition("restored")
    remember_a_later_generation(running, "restored")
    running.apply("restored", collections=[{"name": "c"}, {"name": "after"}])
    running.wait_condition("restored")
    assert "restored_after" in running.mongo.list_collection_names()
    row = running.mongo["apps_config"].find_one({"slug": "restored"})
    assert row is not None
    assert row["generation"] == running.app("restored")["metadata"]["generation"]


def test_a_start_after_a_restore_does_not_spin(installation: Installation) -> None:
    here = installation
    process = here.start()
    here.apply("calm")
    here.wait_condition("calm")
    here.stop(process)
    remember_a_later_generation(here, "calm")
    process = here.start()
    here.annotate("calm", "rotate-requested", "now")
    here.wait_condition("calm")
    assert here.secret("calm-mdb")["secret-version"] == "2", "it is served"
    failed = 'mdb_operator_reconciles_total{result="waiting"}'
    assert here.metrics(process).get(failed, 0.0) <= 1
    here.stop(process)


async def test_a_running_operator_heeds_events_of_lower_resource_versions(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with live_operator(installation, monkeypatch) as operator:
        here = installation
        here.apply("lower")
        await operator.settle("lower")
        # What it saw before the restore: the same object, later.
        later: dict[str, Any] = copy.deepcopy(here.app("lower"))
        later["metadata"]["resourceVersion"] = str(
            int(later["metadata"]["resourceVersion"]) + 1_000_000
        )
        operator.controller.see("MODIFIED", later)
        # The restored API server ends all watches: everything is listed anew.
        here.apply("lower", collections=[{"name": "after"}])
        operator.controller.listed(here.apps, [later["metadata"]["uid"]])
        operator.controller.see(None, here.app("lower"))
        await operator.settle("lower")
        assert "lower_after" in here.mongo.list_collection_names()
