"""After a restore of etcd generations and resource versions are lower than what was seen."""

from __future__ import annotations

from support.installation import Installation
from support.waiting import wait_until

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
    wait_until(
        lambda: here.secret("calm-mdb")["secret-version"] == "2",
        deadline=10,
        message="the rotation of what was restored",
    )
    metrics = here.metrics(process)
    assert any(name.startswith("mdb_operator_reconcile_total") for name in metrics)
    assert metrics.get('mdb_operator_reconcile_total{result="waiting"}', 0.0) <= 1
    here.stop(process)
