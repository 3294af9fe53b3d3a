"""Alerts and dashboard: Prometheus' checker runs the one, Grafana's schema reads the other."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from support.chart import CHART, SOMEWHERE, render

ALERTS = CHART / "files" / "alerts.yaml"

OPERATIONS = CHART.parents[1] / "docs" / "operations.md"

APP = 'namespace="shop",name="orders",slug="orders"'


def condition(kind: str, status: str, reason: str) -> str:
    """Return the series of a condition that stays as it is."""
    labels = f'{APP},condition="{kind}",status="{status}",reason="{reason}"'
    return f"mdb_operator_app_condition{{{labels}}} 1x200"


FIRES: Mapping[str, tuple[list[str], str]] = {
    "MdbOperatorHasNoLeader": (["mdb_operator_leader 0x200"], "5m"),
    "MdbOperatorCannotReachMongoDB": (["mdb_operator_database_up 0x200"], "5m"),
    "MdbOperatorDatabaseIsAnothers": (
        ['mdb_operator_database_held_by_other{installation="x"} 1x200'],
        "5m",
    ),
    "MdbRegistryRowDamaged": (["mdb_operator_unreadable_rows 1x200"], "20m"),
    "MdbAppIsAnothers": (
        ['mdb_operator_app_held_by_other{namespace="shop",name="orders"} 1x200'],
        "10m",
    ),
    "MdbAppNotReady": (
        [condition("Ready", "false", "SlugTaken")],
        "20m",
    ),
    "MdbRestartFailed": ([condition("WorkloadsRestarted", "false", "RestartFailed")], "10m"),
    "MdbMasterKeyUnavailable": (
        ['mdb_operator_conditions{condition="Ready",status="false",reason="KeyUnavailable"} 2x200'],
        "5m",
    ),
    "MdbKeyManagerDown": (['mdb_operator_master_key_usable{manager="transit"} 0x200'], "10m"),
    "MdbAppScopeDenied": (
        [
            condition("GrantsResolved", "false", "NotGranted"),
        ],
        "90m",
    ),
    "MdbMasterKeyRotationStuck": (["mdb_operator_master_key_rewrap_pending 3x200"], "40m"),
    "MdbSecretOld": ([f"mdb_operator_app_secret_age_seconds{{{APP}}} 8000000x200"], "1m"),
    "MdbSecretFought": (
        [
            'mdb_operator_writes_total{target="kubernetes",reason="project"} 0+5x200',
            "mdb_operator_apps 2x200",
        ],
        "90m",
    ),
    "MdbOperatorBug": (['mdb_operator_reconcile_total{result="error"} 0+1x200'], "20m"),
}
"""Each alert: the series that make it fire, one sample a minute, and when it has."""

WELL = [
    "mdb_operator_leader 1x200",
    "mdb_operator_database_up 1x200",
    "mdb_operator_unreadable_rows 0x200",
    condition("Ready", "true", "Provisioned"),
    condition("GrantsResolved", "true", "Provisioned"),
    'mdb_operator_conditions{condition="Ready",status="true",reason="Provisioned"} 2x200',
    "mdb_operator_master_key_rewrap_pending 0x200",
    f"mdb_operator_app_secret_age_seconds{{{APP}}} 86400x200",
    'mdb_operator_writes_total{target="kubernetes",reason="project"} 5x200',
    "mdb_operator_apps 2x200",
    'mdb_operator_reconcile_total{result="error"} 0x200',
    'mdb_operator_reconcile_total{result="changed"} 0+9x200',
]
"""The series of an operator with nothing to complain of."""


def rules() -> dict[str, dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def run(promtool: Path, *arguments: str | Path) -> str:
    done = subprocess.run(
        [promtool, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def series(lines: list[str]) -> list[dict[str, str]]:
    parts = [line.rpartition(" ") for line in lines]
    return [{"series": name, "values": values} for name, _, values in parts]


@pytest.mark.long  # promtool is compiled, once: by `make test-long` before
@pytest.mark.timeout(1200)
def test_promtool_takes_what_the_chart_renders(promtool: Path, tmp_path: Path) -> None:
    rule = {"enabled": True, "ruleLabels": {"team": "data"}, "disabled": ["MdbSecretOld"]}
    [found] = [
        one
        for one in render(
            {**SOMEWHERE, "metrics": {"prometheusRule": rule}},
            "--api-versions=monitoring.coreos.com/v1/PrometheusRule",
        )
        if one["kind"] == "PrometheusRule"
    ]
    [group] = found["spec"]["groups"]
    assert [one["alert"] for one in group["rules"]] == [n for n in rules() if n != "MdbSecretOld"]
    assert {one["labels"]["team"] for one in group["rules"]} == {"data"}
    assert all(one["labels"]["severity"] for one in group["rules"])
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(found["spec"]))
    assert f"{len(group['rules'])} rules found" in run(
        promtool, "check", "rules", "--lint=all", "--lint-fatal", file
    )


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_alert_fires_for_its_reason_and_for_no_other(promtool: Path, tmp_path: Path) -> None:
    assert FIRES.keys() == rules().keys()
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": series(lines),
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})',
                    "eval_time": when,
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
            ],
        }
        for name, (lines, when) in FIRES.items()
    ]
    tests.append(
        {
            "name": "all is well",
            "interval": "1m",
            "input_series": series(WELL),
            "promql_expr_test": [{"expr": "ALERTS", "eval_time": "180m", "exp_samples": []}],
        }
    )
    file = tmp_path / "test.yaml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests})
    )
    assert "SUCCESS" in run(promtool, "test", "rules", file)


def test_an_alert_says_what_about_and_what_to_do() -> None:
    for name, rule in rules().items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}, name
        assert set(rule["annotations"]) == {"summary", "description"}, name
        used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        lost = {"namespace", "name", "reason"} if "(" in rule["expr"].split("{")[0] else set()
        assert not used & lost, f"{name}: an aggregation has no such label"


def test_the_guide_shows_the_alerts_as_they_are() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    [block] = [one for one in blocks if "- alert: " in one]
    [group] = yaml.safe_load(block)["groups"]
    shown = {rule["alert"]: rule for rule in group["rules"]}
    wanted = {
        name: {key: rule[key] for key in ("alert", "expr", "for") if key in rule}
        for name, rule in rules().items()
    }
    assert shown == wanted


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            yield from leaves(item, f"{path}[{number}]")
    else:
        yield path, value


def test_the_dashboard_fits_grafanas_schema() -> None:
    """Grafana's own models, generated from its schema, keep every field: none is misspelt."""
    board = json.loads((CHART / "dashboards" / "mdb-operator.json").read_text())
    assert misread(board) == {}
    for spoilt in (
        {**board, "refesh": "5s"},
        {**board, "time": {**board["time"], "form": "now-1h"}},
        {**board, "panels": [{**board["panels"][0], "gridpos": {}}, *board["panels"][1:]]},
    ):
        assert len(misread(spoilt)) == 1


def misread(board: dict[str, Any]) -> dict[str, Any]:
    """Return what of a dashboard Grafana's models do not know, or take for something else."""
    register_default_plugins()
    encoded = JSONEncoder(sort_keys=True).encode(Dashboard.from_json(board))
    kept = dict(leaves(json.loads(encoded)))
    return {path: value for path, value in leaves(board) if kept.get(path, ...) != value}
