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
