from __future__ import annotations

import re
import time

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.process.metrics import AppSnapshot, Metrics

KEY = AppKey("shop", "dashboard")
LABELS = {"namespace": "shop", "name": "dashboard", "slug": "dash"}


def about_apps(metrics: Metrics) -> list[str]:
    text = generate_latest(metrics.registry).decode()
    return [line for line in text.splitlines() if 'name="dashboard"' in line]


def snapshot(reason: str = "Provisioned") -> AppSnapshot:
    status = "True" if reason == "Provisioned" else "False"
    return AppSnapshot("dash", {"Ready": (status, reason)}, 3, time.time() - 60)  # type: ignore[dict-item]


def test_the_series_of_an_app_disappear_with_it() -> None:
    metrics = Metrics()
    metrics.show_app(KEY, snapshot("KeyUnavailable"))
    assert len(about_apps(metrics)) == 3
    assert metrics.registry.get_sample_value("mdb_operator_apps") == 1
    metrics.forget_app(KEY)
    assert about_apps(metrics) == []
    assert metrics.registry.get_sample_value("mdb_operator_apps") == 0


def test_a_condition_has_one_series_whatever_its_reason_was_before() -> None:
    metrics = Metrics()
    for reason in ("DatabaseUnavailable", "KeyUnavailable"):
        metrics.show_app(KEY, snapshot(reason))
    labels = {**LABELS, "condition": "Ready", "status": "false", "reason": "KeyUnavailable"}
    assert metrics.registry.get_sample_value("mdb_operator_app_condition", labels) == 1
    assert sum("mdb_operator_app_condition{" in line for line in about_apps(metrics)) == 1
    metrics.show_app(KEY, snapshot())
    assert sum("mdb_operator_app_condition{" in line for line in about_apps(metrics)) == 1


def test_of_what_is_true_there_is_a_series_for_ready_alone() -> None:
    metrics = Metrics()
    conditions = {"Ready": ("True", "Provisioned"), "GrantsResolved": ("True", "Resolved")}
    metrics.show_app(KEY, AppSnapshot("dash", conditions))  # type: ignore[arg-type]
    [shown] = [line for line in about_apps(metrics) if "app_condition{" in line]
    assert 'condition="Ready"' in shown


def test_what_is_said_of_all_apps_does_not_grow_with_their_number() -> None:
    def lines(apps: int) -> list[str]:
        metrics = Metrics(each_app=False)
        for number in range(apps):
            metrics.show_app(AppKey("shop", f"dashboard-{number}"), snapshot())
        labels = {"condition": "Ready", "status": "true", "reason": "Provisioned"}
        value = metrics.registry.get_sample_value
        assert value("mdb_operator_conditions", labels) == apps
        age = value("mdb_operator_oldest_secret_age_seconds")
        assert age == pytest.approx(60, abs=5)
        return generate_latest(metrics.registry).decode().splitlines()

    assert len(lines(1000)) == len(lines(1))


def test_the_age_of_a_secret_grows_without_anybody_setting_it() -> None:
    metrics = Metrics()
    metrics.show_app(KEY, snapshot())
    age = metrics.registry.get_sample_value("mdb_operator_app_secret_age_seconds", LABELS)
    assert age == pytest.approx(60, abs=5)


def test_reconciles_are_counted_and_timed_by_result_and_a_crash_is_an_error() -> None:
    metrics = Metrics()
    with metrics.time_reconcile() as timer:
        timer.result = "unchanged"
    with pytest.raises(RuntimeError), metrics.time_reconcile():
        raise RuntimeError
    value = metrics.registry.get_sample_value
    for result in ("changed", "waiting"):  # there before the first: an increase needs a beginning
        assert value("mdb_operator_reconcile_total", {"result": result}) == 0
    for result in ("unchanged", "error"):
        assert value("mdb_operator_reconcile_total", {"result": result}) == 1
        name = "mdb_operator_reconcile_duration_seconds_count"
        assert value(name, {"result": result}) == 1


def test_whether_mongodb_answers_is_not_said_by_a_process_that_does_not_ask_it() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    assert value("mdb_operator_database_up") is None
    metrics.show_database(up=False)
    assert value("mdb_operator_database_up") == 0
    metrics.show_database(up=True)
    assert value("mdb_operator_database_up") == 1


def test_names_follow_the_conventions_and_everything_has_a_help_text() -> None:
    metrics = Metrics()
    metrics.show_app(KEY, snapshot("KeyUnavailable"))
    metrics.show_database(up=True)
    metrics.count_write("mongodb", "rotate")
    metrics.count_request("get", "secrets", 200)
    text = generate_latest(metrics.registry).decode()
    names = set()
    for family in text_string_to_metric_families(text):
        if not family.name.startswith("mdb_operator_"):
            continue
        names.add(family.name)
        assert family.documentation, family.name
        assert re.fullmatch(r"[a-z][a-z_]*", family.name)
        if family.type == "counter":
            assert f"{family.name}_total" in text
        if "duration" in family.name or "age" in family.name:
            assert family.name.endswith("_seconds")
    assert {
        "mdb_operator_build_info",
        "mdb_operator_leader",
        "mdb_operator_database_up",
        "mdb_operator_reconcile",
        "mdb_operator_reconcile_duration_seconds",
        "mdb_operator_app_condition",
        "mdb_operator_app_secret_age_seconds",
        "mdb_operator_writes",
    } <= names
