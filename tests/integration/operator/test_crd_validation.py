"""The API server itself refuses what is malformed, and says where."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.clusters import Cluster, CommandError

from mdb_engine.exceptions import ManifestInvalid
from mdb_engine.models.spec import MdbAppSpec
from mdb_operator.exceptions import KubernetesError
from mdb_operator.kubernetes.client import KubeClient, KubeObject
from mdb_operator.kubernetes.resources import MDBAPPS

MALFORMED: list[dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parent / "data" / "malformed.yaml").read_text()
)

FULL: dict[str, Any] = {
    "slug": "click_tracker_dashboard",
    "displayName": "Click Tracker Dashboard",
    "description": "Analytics over clicks",
    "dataAccess": {
        "readScopes": ["click_tracker_dashboard", "click_tracker"],
        "writeScope": "click_tracker_dashboard",
        "crossAppPolicy": "Explicit",
        "readers": [{"namespace": "bi", "slug": "sales"}, {"namespace": "*"}],
    },
    "collections": [
        {
            "name": "reports",
            "indexes": [
                {"name": "by_day", "keys": [{"field": "day", "order": 1}], "unique": False},
                {"keys": [{"field": "day", "order": -1}, {"field": "a.b"}], "sparse": True},
                {"keys": [{"field": "title", "kind": "Text", "weight": 2}]},
                {
                    "keys": [{"field": "at"}],
                    "expireAfterSeconds": 60,
                    "partialFilter": [{"field": "n", "operator": "gt", "numberValue": 1}],
                },
                {"keys": [{"field": "user", "kind": "Hashed"}]},
                {"keys": [{"field": "*", "kind": "Wildcard"}], "name": "all"},
                {
                    "keys": [{"field": "n"}],
                    "collation": {"locale": "de", "strength": 2},
                    "partialFilter": [
                        {"field": "k", "operator": "in", "values": [{"nullValue": True}]},
                        {"field": "at", "dateValue": "2026-01-31T12:00:00Z"},
                    ],
                },
            ],
            "validator": '{"n": 1}',
            "preImages": True,
            "capped": {"sizeBytes": 4096, "maxDocuments": 1},
            "collation": {"locale": "en", "numericOrdering": True},
            "searchIndexes": [{"name": "near", "definition": '{"mappings": {}}'}],
            "adopt": {"from": "old_reports"},
        },
        {"name": "weather", "timeSeries": {"timeField": "at", "granularity": "hours"}},
    ],
    "secret": {"name": "dashboard", "rotationPeriodSeconds": 86400, "overlapSeconds": 120},
    "restart": [{"kind": "Deployment", "name": "dashboard"}],
    "deletionPolicy": "Delete",
    "suspend": True,
}


async def dry_create(kube: KubeClient, namespace: str, spec: Any, name: str = "a") -> KubeObject:
    body: KubeObject = {
        "apiVersion": "mdb-engine.dev/v1",
        "kind": "MdbApp",
        "metadata": {"name": name, "namespace": namespace},
    }
    if spec is not None:
        body["spec"] = spec
    return await kube._send(
        "create",
        MDBAPPS,
        MDBAPPS.path(namespace),
        query={"dryRun": "All", "fieldValidation": "Strict"},
        body=body,
    )


async def test_malformed_manifests_are_refused_and_the_field_is_named(
    kube: KubeClient, namespace: str, crd: None
) -> None:
    assert len(MALFORMED) >= 40
    wrong = []
    for case in MALFORMED:
        if "update" in case:
            continue
        try:
            await dry_create(kube, namespace, case.get("spec"))
        except KubernetesError as error:
            if case["field"] not in error.message:
                wrong.append(f"{case['what']}: {case['field']!r} is not in: {error.message}")
        else:
            wrong.append(f"{case['what']}: accepted")
    assert not wrong, "\n".join(wrong)


def test_an_apps_slug_never_changes(control_plane: Cluster, make_app: Any) -> None:
    app = make_app()
    with pytest.raises(CommandError, match="slug is immutable"):
        control_plane.kubectl(
            "patch", "mdbapp", app.name, "-n", app.namespace,
            "--type=merge", "-p", '{"spec": {"slug": "another"}}',
        )  # fmt: skip


async def test_a_name_too_long_for_the_default_secret_needs_a_secret_name(
    kube: KubeClient, namespace: str, crd: None
) -> None:
    with pytest.raises(KubernetesError, match=r"spec\.secret\.name"):
        await dry_create(kube, namespace, {"slug": "a"}, name="a" * 250)
    await dry_create(kube, namespace, {"slug": "a", "secret": {"name": "s"}}, name="a" * 250)


async def test_a_manifest_with_every_field_is_accepted_as_it_is(
    kube: KubeClient, namespace: str, crd: None
) -> None:
    created = await dry_create(kube, namespace, FULL)
    stored = MdbAppSpec.parse(created["spec"])
    assert stored == MdbAppSpec.parse(FULL)


async def test_the_model_parses_what_the_api_server_lets_through(
    kube: KubeClient, namespace: str, crd: None
) -> None:
    """There is no condition for a spec that the server should have refused."""
    for path in (("collections", 0, "indexes", 0, "name"), ("description",), ("restart",)):
        spec = copy.deepcopy(FULL)
        node: Any = spec
        for part in path[:-1]:
            node = node[part]
        del node[path[-1]]
        created = await dry_create(kube, namespace, spec)
        MdbAppSpec.parse(created["spec"])


def test_the_model_refuses_what_the_api_server_refuses() -> None:
    """But for the spelling of manifest.json, and a list that would only do the same thing twice."""
    lenient = {"a policy as manifest.json spells it", "one workload twice"}
    accepted = set()
    for case in MALFORMED:
        if "spec" in case and "update" not in case:
            try:
                MdbAppSpec.parse(case["spec"])
            except ManifestInvalid:
                continue
            accepted.add(case["what"])
    assert accepted == lenient


async def test_the_server_fills_in_the_defaults(
    kube: KubeClient, namespace: str, crd: None
) -> None:
    created = await dry_create(kube, namespace, {"slug": "a"})
    assert created["spec"] == {
        "slug": "a",
        "collections": [],
        "dataAccess": {"crossAppPolicy": "Explicit", "readers": []},
        "deletionPolicy": "Retain",
        "operatorClass": "default",
        "restart": [],
        "secret": {"overlapSeconds": 600, "rotationPeriodSeconds": 0},
        "suspend": False,
    }


def test_apps_can_be_selected_by_slug_and_explained(control_plane: Cluster, make_app: Any) -> None:
    app = make_app("orders")
    make_app("stock")
    found = control_plane.kubectl(
        "get", "mdba", "-n", app.namespace, "-o", "json",
        "--field-selector", f"spec.slug=orders-{app.namespace}",
    )  # fmt: skip
    assert [item["metadata"]["name"] for item in json.loads(found)["items"]] == ["orders"]
    table = control_plane.kubectl("get", "mdb", "-n", app.namespace)
    assert table.splitlines()[0].split() == [
        "NAME", "SLUG", "READY", "REASON", "SECRET", "VERSION", "AGE",
    ]  # fmt: skip
    text = control_plane.kubectl("explain", "mdbapp.spec.secret.overlapSeconds")
    assert "previous secret still works" in text
