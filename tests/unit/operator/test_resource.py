from __future__ import annotations

from mdb_operator.apps.resource import MdbAppResource


def resource(**annotations: str) -> MdbAppResource:
    metadata = {
        "namespace": "shop",
        "name": "orders",
        "uid": "u",
        "annotations": annotations,
    }
    return MdbAppResource.from_body({"metadata": metadata, "spec": {"slug": "orders"}})


def test_what_others_annotate_is_neither_kept_nor_a_reason_to_look() -> None:
    bare = resource()
    theirs = resource(**{"kubectl.kubernetes.io/last-applied-configuration": "x" * 1000})
    assert theirs.annotations == {}
    assert bare.means_the_same_as(theirs)
    ours = resource(**{"mdb-engine.dev/rotate-requested": "1"})
    assert ours.annotations == {"mdb-engine.dev/rotate-requested": "1"}
    assert not bare.means_the_same_as(ours)


def test_what_changed_since_its_status_was_written_is_looked_at_first_at_a_start() -> None:
    def changed(observed: int | None, *, deleting: bool = False) -> bool:
        metadata = {"namespace": "shop", "name": "orders", "uid": "u", "generation": 2}
        if deleting:
            metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        status = {} if observed is None else {"observedGeneration": observed}
        return MdbAppResource.from_body(
            {"metadata": metadata, "status": status}
        ).changed_since_its_status

    assert changed(1)
    assert changed(2, deleting=True)
    assert not changed(2)
    assert not changed(None)  # a new one: these come in their hundreds
