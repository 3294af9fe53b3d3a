"""What GitOps tools make of MdbApps: Argo CD by its Lua, Flux by kstatus, over real statuses.

The statuses are those that the operator writes (`describe`), for every reason that it knows.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.lua import run_lua
from support.reports import STATUSES, app_of

from mdb_operator.apps.conditions import Reason
from mdb_operator.constants import ANNOTATION_REVOKE_PREVIOUS, ANNOTATION_ROTATE_REQUESTED

ROOT = Path(__file__).parents[3]

CONFIG: Mapping[str, str] = yaml.safe_load(
    (ROOT / "examples" / "gitops" / "argocd-cm.yaml").read_text()
)["data"]

HEALTH = CONFIG["resource.customizations.health.mdb-engine.dev_MdbApp"]

ACTIONS: Mapping[str, Any] = yaml.safe_load(
    CONFIG["resource.customizations.actions.mdb-engine.dev_MdbApp"]
)

EXPECTED: Mapping[str, tuple[str, str]] = {
    "ready": ("Healthy", "Current"),
    "a scope is denied": ("Healthy", "Current"),
    "a scope's owner is missing": ("Healthy", "Current"),
    "an index is being built": ("Healthy", "Current"),
    "a collection is adopted": ("Progressing", "InProgress"),
    "a restart failed": ("Healthy", "Current"),
    "new": ("Progressing", "InProgress"),
    "changed": ("Progressing", "InProgress"),
    "suspended": ("Suspended", "InProgress"),
    "DatabaseUnavailable": ("Progressing", "InProgress"),
    "KubernetesUnavailable": ("Progressing", "InProgress"),
    "Contended": ("Progressing", "InProgress"),
    "SlugTaken": ("Degraded", "Failed"),
    "CollectionTaken": ("Degraded", "Failed"),
    "IndexConflict": ("Degraded", "Failed"),
    "SecretConflict": ("Degraded", "Failed"),
    "KeyUnavailable": ("Degraded", "Failed"),
    "Deleting": ("Progressing", "Terminating"),
}
"""Each status: its health to Argo CD, and to kstatus. What only a person can mend has failed."""


def test_every_reason_has_a_status_here() -> None:
    assert EXPECTED.keys() == STATUSES.keys()
    told = {row["reason"] for status in STATUSES.values() for row in status.get("conditions", ())}
    assert told == {reason.value for reason in Reason}


@pytest.mark.parametrize("name", EXPECTED)
def test_argo_cd_says_how_an_app_is(name: str) -> None:
    health = run_lua(HEALTH, app_of(name))
    assert health["status"] == EXPECTED[name][0]
    assert health["message"]
    ready = [row for row in STATUSES[name].get("conditions", ()) if row["type"] == "Ready"]
    if ready and name != "changed":
        assert health["message"] == f"{ready[0]['reason']}: {ready[0]['message']}"


@pytest.mark.timeout(1200)  # kstatus is compiled, once
def test_flux_says_how_an_app_is(kstatus: Path) -> None:
    objects = [app_of(name) for name in EXPECTED]
    done = subprocess.run(
        [kstatus], input=json.dumps(objects), capture_output=True, text=True, timeout=30, check=True
    )
    found = [one["status"] for one in json.loads(done.stdout)]
    assert dict(zip(EXPECTED, found, strict=True)) == {
        name: status for name, (_, status) in EXPECTED.items()
    }


# --- actions


def act(name: str, obj: Mapping[str, Any]) -> dict[str, Any]:
    [script] = [one["action.lua"] for one in ACTIONS["definitions"] if one["name"] == name]
    done: dict[str, Any] = run_lua(script, obj)
    return done


def offered(name: str) -> set[str]:
    found = run_lua(ACTIONS["discovery.lua"], app_of(name))
    return {action for action, how in found.items() if not how["disabled"]}


def test_what_can_be_done_depends_on_how_it_is() -> None:
    assert offered("ready") == {"rotate", "revoke-previous", "suspend"}
    assert offered("suspended") == {"revoke-previous", "resume"}
    assert offered("new") == {"suspend"}
    assert {one["name"] for one in ACTIONS["definitions"]} == {
        *("rotate", "revoke-previous", "suspend", "resume"),
    }


@pytest.mark.parametrize(
    ("name", "annotation"),
    [("rotate", ANNOTATION_ROTATE_REQUESTED), ("revoke-previous", ANNOTATION_REVOKE_PREVIOUS)],
)
def test_a_request_is_a_new_value_of_an_annotation(name: str, annotation: str) -> None:
    bare = app_of("ready")
    kept = {**bare, "metadata": {**bare["metadata"], "annotations": {"a": "b"}}}
    for obj in (bare, kept):
        after = act(name, obj)
        value = after["metadata"]["annotations"].pop(annotation)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value)
        assert abs((datetime.fromisoformat(value) - datetime.now(UTC)).total_seconds()) < 60
        assert after["metadata"].pop("annotations") == obj["metadata"].get("annotations", {})
        del after["status"]  # it is the operator's; an empty list looks like an empty table there
        before = {**obj, "metadata": {**obj["metadata"]}}
        before["metadata"].pop("annotations", None)
        del before["status"]
        assert after == before


def test_it_is_suspended_and_goes_on() -> None:
    suspended = act("suspend", app_of("ready"))
    assert suspended["spec"]["suspend"] is True
    assert act("resume", suspended)["spec"]["suspend"] is False


def test_the_scripts_reach_nothing_outside() -> None:
    for script in ("return io.open('/etc/passwd')", "return os.getenv('HOME')", "require('os')"):
        with pytest.raises(Exception, match=r"attempt to (index|call)"):
            run_lua(script, {})
