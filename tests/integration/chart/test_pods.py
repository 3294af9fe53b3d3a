"""What can be said of the chart's pods: of the operator's, and of the Jobs', tests' and trial's."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support.chart import CHART, SOMEWHERE, containers, helm, pods, render
from support.clusters import Cluster

FIXED = {"runAsUser", "runAsGroup", "fsGroup"}

OPENSHIFT = "--api-versions=security.openshift.io/v1/SecurityContextConstraints"


def the_pod(values: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """Return the operator's pod, which is the only one where Helm sees no cluster."""
    [(_, pod)] = pods(render({**SOMEWHERE, **values}, *arguments))
    return pod


@pytest.fixture
def all_pods(control_plane: Cluster, namespace: str, tmp_path: Any) -> Any:
    """Render with a look into the cluster, which knows of an older CRD than the chart's."""

    def rendered(**values: Any) -> dict[str, dict[str, Any]]:
        file = tmp_path / "values.yaml"
        trial = {"enabled": True, **values.pop("trial", {})}
        file.write_text(yaml.safe_dump({"mongodb": {"trial": trial}, **values}))
        text = control_plane.helm(
            *("template", "mdb", str(CHART), "-n", namespace, "-f", str(file)),
            *("--dry-run=server", "--set=crds.install=false"),
        )
        return dict(pods([one for one in yaml.safe_load_all(text) if one]))

    return rendered


def test_a_security_context_is_merged_and_null_takes_a_key_out() -> None:
    pod = the_pod(
        {
            "podSecurityContext": {"runAsUser": 4711, "fsGroup": None, "supplementalGroups": [5]},
            "securityContext": {"readOnlyRootFilesystem": None, "privileged": False},
        }
    )
    assert pod["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 4711,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
        "supplementalGroups": [5],
    }
    [container] = containers(pod)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }


@pytest.mark.parametrize("adapt", ["force", "auto", "disabled"])
def test_on_openshift_no_pod_has_a_fixed_user(all_pods: Any, adapt: str) -> None:
    mode = {"compatibility": {"openshift": {"adaptSecurityContext": adapt}}}
    found = all_pods(**{"global": mode})
    assert {name.partition("/")[0] for name in found} == {"Deployment", "StatefulSet", "Job", "Pod"}
    for name, pod in found.items():
        contexts = [pod["spec"]["securityContext"]]
        contexts += [one["securityContext"] for one in containers(pod)]
        has_fixed = any(FIXED & context.keys() for context in contexts)
        assert has_fixed is (adapt != "force"), name  # the cluster is no OpenShift
        assert contexts[0]["runAsNonRoot"] is True, name
        assert all(one["capabilities"] == {"drop": ["ALL"]} for one in contexts[1:]), name


def test_openshift_is_found_by_what_its_api_server_knows() -> None:
    assert not FIXED & the_pod({}, OPENSHIFT)["spec"]["securityContext"].keys()
    assert the_pod({})["spec"]["securityContext"].keys() >= FIXED
    off = {"global": {"compatibility": {"openshift": {"adaptSecurityContext": "disabled"}}}}
    assert the_pod(off, OPENSHIFT)["spec"]["securityContext"].keys() >= FIXED


def test_what_all_pods_have_in_common(all_pods: Any) -> None:
    given: dict[str, Any] = {
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["mongodb.example.com"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.2"], "options": [{"name": "ndots", "value": "1"}]},
        "priorityClassName": "high",
        "schedulerName": "mine",
        "runtimeClassName": "gvisor",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    }
    labels = {"commonLabels": {"team": "data"}, "podLabels": {"sidecar": "no"}}
    found = all_pods(**given, **labels, podAnnotations={"a": "b"}, imagePullSecrets=[{"name": "r"}])
    assert len(found) == 4
    for name, pod in found.items():
        spec = pod["spec"]
        aliases = given["hostAliases"][0]
        assert aliases in spec["hostAliases"], name
        assert {key: spec[key] for key in given if key != "hostAliases"} == {
            key: value for key, value in given.items() if key != "hostAliases"
        }, name
        assert spec["imagePullSecrets"] == [{"name": "r"}], name
        assert pod["metadata"]["labels"].items() >= {"team": "data", "sidecar": "no"}.items(), name


@pytest.mark.long
def test_a_parent_charts_globals_hold_where_the_chart_says_nothing(all_pods: Any) -> None:
    everywhere: dict[str, Any] = {
        "imageRegistry": "registry.example.com/",
        "imagePullSecrets": ["one", {"name": "two"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "podLabels": {"a": "global", "b": "global"},
        "commonLabels": {"c": "global"},
    }
    found = all_pods(**{"global": everywhere}, podLabels={"b": "mine"})
    for name, pod in found.items():
        assert pod["spec"]["nodeSelector"] == {"disk": "ssd"}, name
        assert pod["spec"]["tolerations"] == everywhere["tolerations"], name
        assert pod["spec"]["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}], name
        wanted = {"a": "global", "b": "mine", "c": "global"}
        assert pod["metadata"]["labels"].items() >= wanted.items(), name
        for container in containers(pod):
            assert container["image"].startswith("registry.example.com/m"), name
    mine = the_pod({"global": everywhere, "nodeSelector": {"disk": "hdd"}})
    assert mine["spec"]["nodeSelector"] == {"disk": "hdd"}
    anti: dict[str, Any] = {
        "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}
    }
    assert the_pod({"global": {"affinity": anti}})["spec"]["affinity"] == anti


def test_replicas_are_spread_and_how_can_be_said() -> None:
    [default] = the_pod({})["spec"]["topologySpreadConstraints"]
    assert default["topologyKey"] == "kubernetes.io/hostname"
    zones = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    [mine] = the_pod({"topologySpreadConstraints": [zones]})["spec"]["topologySpreadConstraints"]
    assert mine == {**zones, "labelSelector": default["labelSelector"]}
    chosen = {**zones, "labelSelector": {"matchLabels": {"a": "b"}}}
    spread = the_pod({"global": {"topologySpreadConstraints": [chosen]}})
    assert spread["spec"]["topologySpreadConstraints"] == [chosen]


def test_a_container_can_be_given_more() -> None:
    key = {"name": "AWS_REGION", "value": "eu-central-1"}
    volume = {"name": "csi", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": True}}
    mount = {"name": "csi", "mountPath": "/etc/keys"}
    helper = {"name": "proxy", "image": "proxy:1"}
    node = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    pod = the_pod(
        {
            "extraEnv": [
                key,
                node,
            ],
            "extraArgs": ["--some=thing"],
            "extraVolumes": [volume],
            "extraVolumeMounts": [mount],
            "extraContainers": [helper],
            "extraInitContainers": [helper],
        }
    )
    _, operator, sidecar = containers(pod)
    assert operator["args"] == ["run", "--some=thing"]
    assert operator["env"][-2:] == [key, node]
    assert volume in pod["spec"]["volumes"]
    assert mount in operator["volumeMounts"]
    assert sidecar == helper == pod["spec"]["initContainers"][0]


def test_a_variable_that_the_chart_sets_is_refused_by_name() -> None:
    twice = [{"name": "MDB_OPERATOR_CONCURRENCY", "value": "9"}]
    with pytest.raises(AssertionError, match="extraEnv: MDB_OPERATOR_CONCURRENCY is set by"):
        render({**SOMEWHERE, "extraEnv": twice})


def test_a_rollout_goes_as_told() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}
    values = {"strategy": strategy, "revisionHistoryLimit": 2, "deploymentAnnotations": {"a": "b"}}
    [deployment] = [one for one in render({**SOMEWHERE, **values}) if one["kind"] == "Deployment"]
    assert deployment["spec"]["strategy"] == strategy
    assert deployment["spec"]["revisionHistoryLimit"] == 2
    assert deployment["metadata"]["annotations"] == {"a": "b"}


def test_probes_can_be_made_patient_and_be_left_out() -> None:
    probes = {
        "startup": {"failureThreshold": 300},
        "liveness": {"enabled": False},
        "readiness": {"initialDelaySeconds": 3},
    }
    [container] = containers(the_pod({"probes": probes}))
    assert container["startupProbe"] == {
        "httpGet": {"path": "/healthz", "port": "http"},
        "periodSeconds": 1,
        "failureThreshold": 300,
    }
    assert "livenessProbe" not in container
    assert container["readinessProbe"]["initialDelaySeconds"] == 3


def test_a_certificate_for_the_port_makes_kubelet_ask_by_https() -> None:
    metrics = {"tls": {"existingSecret": "cert"}, "token": {"existingSecret": "token", "key": "t"}}
    pod = the_pod({"metrics": metrics})
    [container] = containers(pod)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["scheme"] == "HTTPS"
    environment = {one["name"]: one.get("value") for one in container["env"]}
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    files = {
        f"{mounted[volume['name']]}/{item['path']}": (volume["secret"]["secretName"], item["key"])
        for volume in pod["spec"]["volumes"]
        if "secret" in volume
        for item in volume["secret"]["items"]
    }
    assert files[environment["MDB_OPERATOR_HTTP_TLS_CERTIFICATE_FILE"] or ""] == ("cert", "tls.crt")
    assert files[environment["MDB_OPERATOR_HTTP_TLS_KEY_FILE"] or ""] == ("cert", "tls.key")
    assert files[environment["MDB_OPERATOR_METRICS_TOKEN_FILE"] or ""] == ("token", "t")


def test_helm_lint_is_content_with_all_of_it(tmp_path: Any) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        yaml.safe_dump(
            {
                **SOMEWHERE,
                "extraEnv": [{"name": "A", "value": "b"}],
                "extraObjects": ["{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}"],
                "global": {"compatibility": {"openshift": {"adaptSecurityContext": "force"}}},
                "metrics": {
                    "serviceMonitor": {"enabled": True, "renderMode": "alwaysRender"},
                    "prometheusRule": {"enabled": True, "renderMode": "alwaysRender"},
                },
            }
        )
    )
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART), "-f", str(values)).stdout
