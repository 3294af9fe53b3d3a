"""The chart over a matrix of values, each rendering checked by the API server itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.clusters import Cluster, CommandError
from support.installed_operator import CHART

from mdb_operator.kubernetes.resources import AppKey
from mdb_operator.process.metrics import AppSnapshot, Metrics

SOMEWHERE: dict[str, Any] = {"mongodb": {"existingSecret": {"name": "mongodb"}}}
TRIAL: dict[str, Any] = {"mongodb": {"trial": {"enabled": True}}}

ANY_NODE = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "Exists"}]}

DIGEST = f"sha256:{'0' * 64}"

MATRIX: dict[str, dict[str, Any]] = {
    "an existing Secret": SOMEWHERE,
    "a connection string": {"mongodb": {"uri": "mongodb://op:pw@db/?authSource=mdb"}},
    "the trial MongoDB, in memory": TRIAL,
    "the trial MongoDB, on a volume": {"mongodb": {"trial": {"enabled": True, "storage": "1Gi"}}},
    "listed namespaces": {
        **SOMEWHERE,
        "watchNamespaces": ["NAMESPACE"],
        "installation": "here",
        "rbac": {"letGo": True},
    },
    "no watch of Secrets": {**SOMEWHERE, "secretWatch": {"enabled": False, "pollSeconds": 5}},
    "a single replica of library isolation": {
        **SOMEWHERE,
        "replicas": 1,
        "isolation": "library",
        "masterKey": {"existingSecret": "keys"},
    },
    "a key manager": {
        **SOMEWHERE,
        "masterKey": {
            "uri": "transit://bao.example:8200/transit/mdb?auth=approle",
            "former": ["secret", "awskms:///alias/mdb?region=eu-central-1"],
        },
        "extraEnv": [
            {"name": "VAULT_ROLE_ID", "value": "1"},
            {
                "name": "VAULT_SECRET_ID",
                "valueFrom": {"secretKeyRef": {"name": "bao", "key": "secret-id"}},
            },
        ],
    },
    "what an earlier version of the chart had": {
        **SOMEWHERE,
        "masterKey": {"uri": None, "former": None, "volume": None},
    },
    "a keyring of the Secrets Store CSI driver": {
        **SOMEWHERE,
        "masterKey": {
            "uri": "file:///etc/mdb-operator/master-key",
            "volume": {
                "csi": {
                    "driver": "secrets-store.csi.k8s.io",
                    "readOnly": True,
                    "volumeAttributes": {"secretProviderClass": "mdb-master-key"},
                }
            },
        },
    },
    "somebody else's account": {
        **SOMEWHERE,
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "mine"},
        "uninstall": {"releaseFinalizers": False},
        "crds": {"install": False},
    },
    "everything that a pod can be given": {
        **TRIAL,
        "fullnameOverride": "op",
        "imagePullSecrets": [{"name": "registry"}],
        "image": {"repository": "registry.example/op", "digest": DIGEST, "pullPolicy": "Always"},
        "serviceAccount": {"annotations": {"a": "b"}},
        "podAnnotations": {"a": "b"},
        "podLabels": {"team": "shop"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "networkPolicy": {"from": [{"namespaceSelector": {}}]},
        "metrics": {"grafanaDashboard": {"enabled": True, "labels": {"grafana": "yes"}}},
    },
    "more that a pod can be given": {
        **TRIAL,
        "global": {
            "imageRegistry": "registry.example",
            "imagePullSecrets": ["registry"],
            "compatibility": {"openshift": {"adaptSecurityContext": "force"}},
        },
        "commonLabels": {"team": "data"},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}},
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db.example"]}],
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["10.0.0.2"]},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "extraEnv": [{"name": "A", "value": "b"}],
        "extraArgs": ["--help"],
        "extraVolumes": [{"name": "more", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
        "extraContainers": [{"name": "beside", "image": "x"}],
        "extraInitContainers": [{"name": "before", "image": "x"}],
        "extraObjects": ["{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}"],
        "podDisruptionBudget": {"minAvailable": "50%"},
        "excludeNamespaces": ["kube-system"],
        "service": {"ipFamilyPolicy": "PreferDualStack", "annotations": {"a": "b"}},
        "metrics": {"tls": {"existingSecret": "a"}, "token": {"existingSecret": "b"}},
        "workloadRestart": {"enabled": True},
    },
}


NAMES = {
    "name", "namespace", "key", "secretName", "serviceAccountName", "priorityClassName",
    "resourceNames",
}  # fmt: skip


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is no list or mapping, with the key that it stands under."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from leaves(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, key)
    else:
        yield key, value


@pytest.fixture
def values_file(tmp_path: Path, namespace: str) -> Path:
    return tmp_path / f"{namespace}.yaml"


def render(cluster: Cluster, namespace: str, file: Path, values: Mapping[str, Any]) -> str:
    file.write_text(yaml.safe_dump(dict(values)).replace("NAMESPACE", namespace))
    return cluster.helm(
        "template", "mdb", str(CHART), "-n", namespace, "-f", str(file), "--dry-run=server"
    )


@pytest.mark.long
@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_the_api_server_takes_what_the_chart_renders(
    control_plane: Cluster, namespace: str, values_file: Path, values: dict[str, Any]
) -> None:
    rendered = render(control_plane, namespace, values_file, values)
    assert control_plane.kubectl(
        *("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"),
        manifest=rendered,
    )
    if "digest" in values.get("image", {}):
        assert f"image: registry.example/op@{DIGEST}" in rendered
    lint = control_plane.helm("lint", "--strict", str(CHART), "-f", str(values_file))
    assert "0 chart(s) failed" in lint


def test_a_master_key_outside_needs_neither_a_keyring_nor_the_right_to_it(
    control_plane: Cluster, namespace: str, values_file: Path
) -> None:
    uri = "awskms:///alias/mdb?region=eu-central-1"
    outside = render(
        control_plane, namespace, values_file, {**SOMEWHERE, "masterKey": {"uri": uri}}
    )
    moving = {**SOMEWHERE, "masterKey": {"uri": uri, "former": ["secret"]}}
    both = render(control_plane, namespace, values_file, moving)
    for rendered, needs in ((outside, False), (both, True)):
        documents = [one for one in yaml.safe_load_all(rendered) if one]
        rules = [rule for one in documents if one["kind"] == "Role" for rule in one["rules"]]
        names = [name for rule in rules for name in rule.get("resourceNames", [])]
        assert ("Secret" in {one["kind"] for one in documents}) is needs
        assert any(name.endswith("-master-key") for name in names) is needs


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"uri": "vault://bao.example/mdb"}, "does not match pattern"),
        ({"uri": "transit://me:pw@bao.example/transit/mdb"}, "does not match pattern"),
        ({"uri": "file:///etc/mdb-operator/master-key"}, "masterKey.volume"),
        ({"former": ["secret"]}, "names what masterKey.uri names already"),
        ({"volume": {"csi": {}, "secret": {}}}, "masterKey"),
    ],
)
def test_a_master_key_that_cannot_be_reached_is_refused(
    control_plane: Cluster,
    namespace: str,
    values_file: Path,
    values: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(CommandError, match=message):
        render(control_plane, namespace, values_file, {**SOMEWHERE, "masterKey": values})


def test_two_replicas_may_not_be_evicted_together_and_one_may(
    control_plane: Cluster, namespace: str, values_file: Path
) -> None:
    two = render(control_plane, namespace, values_file, SOMEWHERE)
    one = render(control_plane, namespace, values_file, {**SOMEWHERE, "replicas": 1})
    assert "kind: PodDisruptionBudget" in two
    assert "kind: PodDisruptionBudget" not in one


def test_only_the_metrics_port_of_the_operator_can_be_reached(
    control_plane: Cluster, namespace: str, values_file: Path
) -> None:
    documents = list(yaml.safe_load_all(render(control_plane, namespace, values_file, SOMEWHERE)))
    [policy] = [one for one in documents if one and one["kind"] == "NetworkPolicy"]
    [deployment] = [one for one in documents if one and one["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert policy["spec"]["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]


def test_the_policies_of_the_documentation_fit_api_server_and_chart_and_let_nobody_else_in(
    control_plane: Cluster, namespace: str, values_file: Path
) -> None:
    documents = yaml.safe_load_all(render(control_plane, namespace, values_file, SOMEWHERE))
    [deployment] = [one for one in documents if one and one["kind"] == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    text = (CHART.parents[1] / "docs" / "operations.md").read_text()
    policies = [
        one
        for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
        if "kind: NetworkPolicy" in one
    ]
    assert len(policies) == 2
    mongodb, operator = map(yaml.safe_load, policies)
    [rule] = mongodb["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == [27017]
    members, ours, apps = (peer["podSelector"]["matchLabels"] for peer in rule["from"])
    assert members == mongodb["spec"]["podSelector"]["matchLabels"]
    assert ours.items() <= labels.items()
    assert apps == {"mongodb-client": "true"}
    assert operator["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert operator["spec"]["policyTypes"] == ["Egress"]
    assert all(one["ports"] and one["to"] for one in operator["spec"]["egress"])
    for manifest in (mongodb, operator):
        manifest["metadata"]["namespace"] = "default"  # theirs need not be there
        control_plane.kubectl(
            "apply", "--dry-run=server", "-f", "-", manifest=yaml.safe_dump(manifest)
        )


def test_who_may_come_is_narrowed_and_the_pod_of_helm_test_still_may(
    control_plane: Cluster, namespace: str, values_file: Path
) -> None:
    prometheus = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
    values = {**SOMEWHERE, "networkPolicy": {"from": [prometheus]}}
    documents = list(yaml.safe_load_all(render(control_plane, namespace, values_file, values)))
    [policy] = [one for one in documents if one and one["kind"] == "NetworkPolicy"]
    [test] = [one for one in documents if one and one["kind"] == "Pod"]
    first, second = policy["spec"]["ingress"][0]["from"]
    assert first == prometheus
    wanted = second["podSelector"]["matchLabels"]
    assert wanted.items() <= test["metadata"]["labels"].items()


def test_pods_of_hooks_and_tests_run_wherever_the_operator_may(
    control_plane: Cluster, namespace: str, values_file: Path
) -> None:
    node = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [ANY_NODE]}}
    values = {
        **SOMEWHERE,
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": node, "podAffinity": {}},
        "podLabels": {"sidecar": "no"},
        "podAnnotations": {"sidecar": "no"},
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
    }
    text = render(control_plane, namespace, values_file, values)
    documents = [one for one in yaml.safe_load_all(text) if one]
    [deployment] = [one["spec"]["template"] for one in documents if one["kind"] == "Deployment"]
    [job] = [one["spec"]["template"] for one in documents if one["kind"] == "Job"]
    [test] = [one for one in documents if one["kind"] == "Pod"]
    for pod in (job, test):
        for key in ("imagePullSecrets", "nodeSelector", "tolerations"):
            assert pod["spec"][key] == deployment["spec"][key]
        assert pod["spec"]["affinity"] == {"nodeAffinity": node}
        [container], [operator] = pod["spec"]["containers"], deployment["spec"]["containers"]
        assert container["resources"] == operator["resources"]
    assert job["metadata"]["labels"]["sidecar"] == job["metadata"]["annotations"]["sidecar"] == "no"


def test_names_of_digits_stay_names(
    control_plane: Cluster, namespace: str, values_file: Path
) -> None:
    values = {
        "mongodb": {
            "existingSecret": {"name": "1", "key": "2"},
            "tls": {"existingSecret": "3", "appsExistingSecret": "4", "appsIssuerSecret": "9"},
        },
        "masterKey": {"existingSecret": "5"},
        "serviceAccount": {"create": False, "name": "6"},
        "priorityClassName": "7",
        "watchNamespaces": ["8"],
    }
    text = render(control_plane, namespace, values_file, values)
    found = [pair for pair in leaves(list(yaml.safe_load_all(text))) if pair[0] in NAMES]
    assert {str(digit) for digit in range(1, 10)} <= {value for _, value in found}
    assert [pair for pair in found if not isinstance(pair[1], str)] == []


def test_the_dashboard_asks_for_metrics_that_the_operator_has() -> None:
    text = (CHART / "dashboards" / "mdb-operator.json").read_text()
    asked = set(re.findall(r"\bmdb_operator_[a-z_]+", text))
    metrics = Metrics()
    metrics.show_app(AppKey("shop", "orders"), AppSnapshot("orders", {"Ready": ("True", "")}, 1, 1))
    families = list(metrics.registry.collect())
    suffix = {"counter": "_total", "histogram": "_bucket"}
    known = {family.name + suffix.get(family.type, "") for family in families}
    assert asked
    assert asked - known == set()
    panels = json.loads(text)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels)


def test_the_notes_say_the_next_command(control_plane: Cluster, namespace: str) -> None:
    said = control_plane.helm(
        *("install", "mdb", str(CHART), "-n", namespace, "--dry-run=server"),
        *("--set=mongodb.trial.enabled=true,crds.install=false", "--set=watchNamespaces={shop}"),
    ).partition("NOTES:")[2]
    assert f"kubectl -n {namespace} rollout status deployment/mdb-mdb-operator" in said
    assert "for trying out only" in said
    assert "{name: hello, namespace: shop}" in said
    assert f"kubectl -n {namespace} get secret mdb-mdb-operator-master-key" in said
