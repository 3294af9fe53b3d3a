"""Whom the chart gives which rights: the operator what is documented, and people no status."""

from __future__ import annotations

import re
from typing import Any

from support.chart import CHART, SOMEWHERE, render

SECURITY = CHART.parents[1] / "docs" / "security.md"

Right = tuple[str, str, bool, frozenset[str]]
"""Where it holds, on what, whether by name, and the verbs."""


def documented_rights() -> set[Right]:
    rows = SECURITY.read_text().partition("| where | on what | rights |")[2].splitlines()[2:]
    found: set[Right] = set()
    for row in rows:
        if not row.startswith("|"):
            break
        where, what, verbs = (cell.strip() for cell in row.split("|")[1:4])
        for resource in re.findall(r"`([a-z/]+)`", what):
            rights = frozenset(re.findall(r"`([a-z]+)`", verbs))
            found.add((where, resource, "by name" in what, rights))
    return found


def test_the_operator_has_the_rights_that_are_documented_and_no_others() -> None:
    objects = render({**SOMEWHERE, "workloadRestart": {"enabled": True}})
    [deployment] = [one for one in objects if one["kind"] == "Deployment"]
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    places = {"ClusterRoleBinding": "what it watches", "RoleBinding": "its own namespace"}
    found: set[Right] = set()
    for binding in objects:
        if binding["kind"] not in places:
            continue
        assert [one["name"] for one in binding["subjects"]] == [account]
        to = binding["roleRef"]
        [role] = [
            one
            for one in objects
            if (one["kind"], one["metadata"]["name"]) == (to["kind"], to["name"])
        ]
        for rule in role["rules"]:
            for resource in rule["resources"]:
                named = bool(rule.get("resourceNames"))
                found.add((places[binding["kind"]], resource, named, frozenset(rule["verbs"])))
    assert found == documented_rights()


def test_whoever_may_edit_a_namespace_writes_mdbapps_and_not_their_status() -> None:
    roles = [one for one in render(SOMEWHERE) if one["kind"] == "ClusterRole"]

    def aggregated(to: str) -> list[dict[str, Any]]:
        label = f"rbac.authorization.k8s.io/aggregate-to-{to}"
        chosen = [one for one in roles if one["metadata"]["labels"].get(label) == "true"]
        return [rule for role in chosen for rule in role["rules"]]

    writes = {"create", "update", "patch", "delete", "deletecollection"}
    for to, verbs in {"view": {"get", "list", "watch"}, "edit": writes, "admin": writes}.items():
        [rule] = aggregated(to)
        assert (rule["resources"], set(rule["verbs"])) == (["mdbapps"], verbs)
