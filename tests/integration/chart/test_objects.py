"""The chart's other objects, and how the chart behaves as a part of something else."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from generator.values import WHOLE, chart_defaults
from support.chart import CHART, SOMEWHERE, Objects, containers, helm, render

from mdb_operator.crd.render import crd

MONITORING = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule")

KNOWN = tuple(f"--api-versions={one}" for one in MONITORING)


def of_kind(objects: Objects, kind: str) -> dict[str, Any]:
    [found] = [one for one in objects if one["kind"] == kind]
    return found


def test_every_object_has_the_common_labels() -> None:
    values = {
        **SOMEWHERE,
        "watchNamespaces": ["shop"],
        "rbac": {"letGo": True},
        "mongodb": {"uri": "mongodb://op:pw@db/"},
        "commonLabels": {"team": "data"},
        "metrics": {
            "grafanaDashboard": {"enabled": True},
            "serviceMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
        },
    }
    objects = render(values, *KNOWN)
    assert len({one["kind"] for one in objects}) == 16
    for one in objects:
        labels = one["metadata"]["labels"]
        assert labels["team"] == "data", one["kind"]
        assert labels["app.kubernetes.io/managed-by"] == "Helm", one["kind"]
        selector = one["spec"].get("selector", {}) if one["kind"] == "Service" else {}
        assert "team" not in selector


def test_nothing_is_outside_of_the_namespace_that_is_said() -> None:
    objects = render({**SOMEWHERE, "namespaceOverride": "elsewhere"})
    namespaces = {one["metadata"].get("namespace", "elsewhere") for one in objects}
    assert namespaces == {"elsewhere"}
    binding = of_kind(objects, "ClusterRoleBinding")
    assert binding["subjects"][0]["namespace"] == "elsewhere"


def test_extra_objects_are_part_of_the_release() -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-text'}"
    mapping = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Chart.Name }}"}}
    objects = render({**SOMEWHERE, "extraObjects": [text, mapping]})
    names = [one["metadata"]["name"] for one in objects if one["kind"] == "ConfigMap"]
    assert names == ["mdb-text", "mdb-operator"]


@pytest.mark.long
def test_a_service_of_two_families() -> None:
    service = {
        "ipFamilyPolicy": "RequireDualStack",
        "ipFamilies": ["IPv6", "IPv4"],
        "annotations": {"a": "b"},
        "labels": {"c": "d"},
    }
    found = of_kind(render({**SOMEWHERE, "service": service}), "Service")
    assert found["spec"]["ipFamilyPolicy"] == "RequireDualStack"
    assert found["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    assert found["metadata"]["annotations"] == {"a": "b"}
    assert found["metadata"]["labels"]["c"] == "d"
    default = of_kind(render(SOMEWHERE), "Service")
    assert not {"ipFamilyPolicy", "ipFamilies"} & default["spec"].keys()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}),
        (
            {"minAvailable": "50%", "unhealthyPodEvictionPolicy": "IfHealthyBudget"},
            {"minAvailable": "50%", "unhealthyPodEvictionPolicy": "IfHealthyBudget"},
        ),
        ({"minAvailable": 0, "unhealthyPodEvictionPolicy": ""}, {"minAvailable": 0}),
    ],
)
def test_a_budget_says_who_may_be_evicted(values: dict[str, Any], wanted: dict[str, Any]) -> None:
    spec = of_kind(render({**SOMEWHERE, "podDisruptionBudget": values}), "PodDisruptionBudget")[
        "spec"
    ]
    del spec["selector"]
    assert spec == wanted


@pytest.mark.long
def test_workloads_are_not_restarted_unless_it_is_asked_for() -> None:
    def resources(objects: Objects) -> set[str]:
        role = next(one for one in objects if one["kind"] == "ClusterRole")
        return {name for rule in role["rules"] for name in rule["resources"]}

    assert not {"deployments", "statefulsets", "daemonsets"} & resources(render(SOMEWHERE))
    asked = render({**SOMEWHERE, "workloadRestart": {"enabled": True}})
    assert resources(asked) >= {"deployments", "statefulsets", "daemonsets"}


# --- what only some clusters have


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ServiceMonitor", "PrometheusRule"])
def test_what_the_prometheus_operator_reads_is_left_out_where_nobody_knows_it(kind: str) -> None:
    value = f"{kind[0].lower()}{kind[1:]}"

    def kinds(mode: str, *arguments: str) -> set[str]:
        metrics = {value: {"enabled": True, "renderMode": mode}}
        return {one["kind"] for one in render({**SOMEWHERE, "metrics": metrics}, *arguments)}

    assert kind not in kinds("skipIfMissing")
    assert kind in kinds("skipIfMissing", f"--api-versions=monitoring.coreos.com/v1/{kind}")
    assert kind in kinds("alwaysRender")
    with pytest.raises(AssertionError, match=f"there is no {kind} in this cluster"):
        kinds("failIfMissing")


def service_monitor(metrics: dict[str, Any]) -> dict[str, Any]:
    return of_kind(render({**SOMEWHERE, "metrics": metrics}, *KNOWN), "ServiceMonitor")


def test_a_service_monitor_is_as_it_is_said() -> None:
    monitor = {
        "enabled": True,
        "namespace": "monitoring",
        "interval": "15s",
        "scrapeTimeout": "10s",
        "labels": {"release": "prometheus"},
        "annotations": {"a": "b"},
        "honorLabels": False,
        "jobLabel": "app.kubernetes.io/name",
        "targetLabels": ["team"],
        "relabelings": [{"action": "labeldrop", "regex": "pod"}],
        "metricRelabelings": [{"action": "labeldrop", "regex": "slug"}],
    }
    found = of_kind(
        render({**SOMEWHERE, "metrics": {"serviceMonitor": monitor}}, *KNOWN), "ServiceMonitor"
    )
    assert found["metadata"]["namespace"] == "monitoring"
    assert found["metadata"]["labels"]["release"] == "prometheus"
    assert found["metadata"]["annotations"] == {"a": "b"}
    spec = found["spec"]
    assert spec["jobLabel"] == "app.kubernetes.io/name"
    assert spec["targetLabels"] == ["team"]
    assert spec["namespaceSelector"] == {"matchNames": ["system"]}
    assert spec["endpoints"] == [
        {
            "port": "http",
            "path": "/metrics",
            "interval": "15s",
            "scrapeTimeout": "10s",
            "honorLabels": False,
            "relabelings": monitor["relabelings"],
            "metricRelabelings": monitor["metricRelabelings"],
        }
    ]


def test_a_service_monitor_asks_by_tls_and_with_the_token() -> None:
    metrics: dict[str, Any] = {
        "tls": {"existingSecret": "cert"},
        "token": {"existingSecret": "token"},
        "serviceMonitor": {"enabled": True},
    }
    [endpoint] = of_kind(render({**SOMEWHERE, "metrics": metrics}, *KNOWN), "ServiceMonitor")[
        "spec"
    ]["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"] == {
        "ca": {"secret": {"name": "cert", "key": "ca.crt"}},
        "serverName": "mdb-mdb-operator-metrics.system.svc",
    }
    assert endpoint["authorization"] == {"credentials": {"name": "token", "key": "token"}}
    metrics["serviceMonitor"]["tlsConfig"] = {"insecureSkipVerify": True}
    [endpoint] = of_kind(render({**SOMEWHERE, "metrics": metrics}, *KNOWN), "ServiceMonitor")[
        "spec"
    ]["endpoints"]
    assert endpoint["tlsConfig"] == {"insecureSkipVerify": True}


def test_an_admission_policy_only_where_the_api_server_has_them() -> None:
    kinds = {one["kind"] for one in render(SOMEWHERE, "--kube-version=1.29.9")}
    assert "ValidatingAdmissionPolicy" not in kinds
    off = render({**SOMEWHERE, "admissionPolicy": {"enabled": False}})
    assert "ValidatingAdmissionPolicy" not in {one["kind"] for one in off}


# --- as a part of something else


def test_a_parent_chart_can_switch_it_off(tmp_path: Path) -> None:
    parent = tmp_path / "parent"
    (parent / "charts").mkdir(parents=True)
    shutil.copytree(CHART, parent / "charts" / "mdb-operator")
    dependency = {
        "name": "mdb-operator",
        "version": "*",
        "condition": "mdb-operator.enabled",
    }
    chart = {"apiVersion": "v2", "name": "parent", "version": "1.0.0", "dependencies": [dependency]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    given = {**SOMEWHERE, "enabled": True}
    everywhere = {"global": {"commonLabels": {"team": "data"}, "theirs": {"more": 1}}}
    objects = render({"mdb-operator": given, **everywhere}, chart=parent)
    assert of_kind(objects, "Deployment")["metadata"]["labels"]["team"] == "data"
    assert render({"mdb-operator": {**given, "enabled": False}}, chart=parent) == []


def without(values: Any, path: tuple[str, ...]) -> Any:
    head, *rest = path
    return {
        key: without(value, tuple(rest)) if key == head else value
        for key, value in values.items()
        if key != head or rest
    }


def mappings(values: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in values.items():
        yield (*path, key)
        if isinstance(value, dict) and key not in (*WHOLE, "labels"):
            yield from mappings(value, (*path, key))


@pytest.mark.long
def test_values_that_are_missing_have_their_defaults(tmp_path: Path) -> None:
    """`helm upgrade --reuse-values` brings the values of a chart that had fewer of them."""
    old = tmp_path / "mdb-operator"
    shutil.copytree(CHART, old)
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    wanted = render(SOMEWHERE)
    (old / "values.yaml").write_text("{}")
    assert render(SOMEWHERE, chart=old) == wanted
    given = {("mongodb",), ("mongodb", "existingSecret"), ("mongodb", "existingSecret", "name")}
    missing = [path for path in mappings(defaults) if path not in given and len(path) < 3]
    assert len(missing) > 100
    for path in missing[::7]:  # each is a run of Helm's; that all go is the first assertion
        (old / "values.yaml").write_text(yaml.safe_dump(without(defaults, path)))
        assert render(SOMEWHERE, chart=old) == wanted, path


def test_a_key_that_was_taken_out_of_a_mapping_is_not_put_back() -> None:
    """Mappings that the schema leaves open are Kubernetes' own, and `null` takes keys out."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    text = (CHART / "templates" / "_helpers.tpl").read_text()
    left_alone = set(re.findall(r'"(\w+)"', text.partition("$open := list")[2].partition("\n")[0]))

    def open_ones(part: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
        for name, value in values.items():
            if not isinstance(value, dict):
                continue
            inner = part["properties"][name]
            if "properties" in inner:
                yield from open_ones(inner, value)
            elif value:
                yield name

    assert set(open_ones(schema, defaults)) == left_alone
    values = {**SOMEWHERE, "resources": {"limits": None}}
    assert containers_of(render(values))[0]["resources"].keys() == {"requests"}


def containers_of(objects: Objects) -> list[dict[str, Any]]:
    return containers(of_kind(objects, "Deployment")["spec"]["template"])


def test_the_defaults_that_the_chart_reads_are_those_of_its_values() -> None:
    found = (CHART / "files" / "defaults.yaml").read_text()
    assert found == chart_defaults(CHART / "values.yaml"), "run `make docs` and commit the result"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"podSecurityContex": {}}, "podSecurityContex"),
        ({"extraEnv": {"A": "b"}}, "extraEnv"),
        ({"extraEnv": [{"nam": "A"}]}, "name"),
        ({"probes": {"liveness": {"httpGet": {}}}}, "httpGet"),
        ({"service": {"ipFamilies": ["IPv5"]}}, "ipFamilies"),
        ({"podDisruptionBudget": {"minAvailable": "half"}}, "minAvailable"),
        ({"metrics": {"serviceMonitor": {"renderMode": "never"}}}, "renderMode"),
        ({"metrics": {"prometheusRule": {"disabled": ["NoLeader"]}}}, "disabled"),
        ({"global": {"compatibility": {"openshift": {"adaptSecurityContext": True}}}}, "adaptSec"),
        ({"strategy": {"type": "Rolling"}}, "strategy"),
        ({"excludeNamespaces": ["a", "a"]}, "excludeNamespaces"),
        ({"excludeNamespaces": ["a"], "watchNamespaces": ["b"]}, "excludeNamespaces"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        render({**SOMEWHERE, **values})


# --- without a look into the cluster


@pytest.mark.long
def test_the_crd_is_what_the_models_say_and_is_kept() -> None:
    installed = of_kind(render(SOMEWHERE), "CustomResourceDefinition")
    wanted = crd()
    assert installed["spec"] == wanted["spec"]
    annotations = {**wanted["metadata"]["annotations"], "helm.sh/resource-policy": "keep"}
    assert installed["metadata"]["annotations"] == annotations
    labels = wanted["metadata"].get("labels", {})
    assert installed["metadata"]["labels"].items() >= labels.items()
    more = render({**SOMEWHERE, "crds": {"annotations": {"a": "b"}}})
    assert of_kind(more, "CustomResourceDefinition")["metadata"]["annotations"]["a"] == "b"
    none = render({**SOMEWHERE, "crds": {"install": False}})
    assert "CustomResourceDefinition" not in {one["kind"] for one in none}


def test_what_is_rendered_and_applied_does_not_uninstall() -> None:
    objects = render(SOMEWHERE)
    kinds = [one["kind"] for one in objects]
    assert "Job" not in kinds
    assert "Pod" not in kinds
    assert kinds.count("CustomResourceDefinition") == 1
    hooks = [one for one in objects if "helm.sh/hook" in one["metadata"].get("annotations", {})]
    assert hooks == []


def test_the_trial_mongodb_is_not_rendered_with_passwords_that_nobody_knows() -> None:
    trial = {"mongodb": {"trial": {"enabled": True}}, "masterKey": {"existingSecret": "keys"}}
    with pytest.raises(AssertionError, match=r"mongodb\.trial\.enabled needs a look into the clu"):
        render(trial)
    assert render(trial, "--is-upgrade")  # as tools do that show what would change


def test_lint_is_content_with_the_trial_mongodb() -> None:
    done = helm("lint", "--strict", str(CHART), "--set=mongodb.trial.enabled=true")
    assert "0 chart(s) failed" in done.stdout
