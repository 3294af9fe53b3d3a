"""The chart as Helm renders and installs it; its rights are in test_rbac."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from support.clusters import Cluster, CommandError
from support.installed_operator import CHART

from mdb_engine.core.keyring import Keyring, generate_master_key

MONGODB = "--set=mongodb.existingSecret.name=mongodb"

Template = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def template(control_plane: Cluster) -> Template:
    def render(*arguments: str) -> list[dict[str, Any]]:
        text = control_plane.helm(
            *("template", "mdb", str(CHART), "-n", "system", "--dry-run=server"), *arguments
        )
        return [document for document in yaml.safe_load_all(text) if document]

    return render


def kinds(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def keyring(control_plane: Cluster, namespace: str) -> dict[str, str]:
    name = "op-mdb-operator-master-key"
    found = control_plane.api.get("Secret", name, namespace)
    assert found is not None
    data: dict[str, str] = found["data"]
    return data


@pytest.mark.long
def test_the_master_key_is_made_once_kept_and_never_made_again(
    control_plane: Cluster, namespace: str
) -> None:
    release = ("op", str(CHART), "-n", namespace, MONGODB)
    off = ("--set=replicas=0,crds.install=false,rbac.create=false",)
    control_plane.helm("install", *release, *off)
    made = keyring(control_plane, namespace)
    decoded = {key: base64.b64decode(value).decode() for key, value in made.items()}
    assert Keyring.from_files(decoded).active_id == "k1"

    second = base64.b64encode(generate_master_key().encode()).decode()
    rotated = {"active": base64.b64encode(b"k2").decode(), "k1": None, "k2": second}
    control_plane.kubectl(
        *("patch", "secret", "op-mdb-operator-master-key", "-n", namespace, "--type=merge"),
        *("-p", json.dumps({"data": rotated})),
    )
    after = {key: value for key, value in rotated.items() if value is not None}
    for command in (
        ("upgrade", *release, *off, "--set=concurrency=9"),
        ("rollback", "op", "1", "-n", namespace),
        ("uninstall", "op", "-n", namespace, "--no-hooks"),
        ("install", *release, *off),
    ):
        control_plane.helm(*command)
        assert keyring(control_plane, namespace) == after, command[0]

    control_plane.kubectl("delete", "secret", "op-mdb-operator-master-key", "-n", namespace)
    with pytest.raises(CommandError, match="restore the Secret from your backup"):
        control_plane.helm("upgrade", *release, *off)


def test_without_a_look_into_the_cluster_no_master_key_is_made(control_plane: Cluster) -> None:
    offline = ("template", "mdb", str(CHART), "-n", "system", MONGODB)
    with pytest.raises(CommandError, match=r"masterKey\.existingSecret is needed"):
        control_plane.helm(*offline)
    for named in (
        control_plane.helm(*offline, "--set=masterKey.existingSecret=mine"),
        control_plane.helm(*offline, "--is-upgrade"),  # as tools do that show what would change
    ):
        assert "kind: Deployment" in named
        assert "kind: Secret" not in named.splitlines()


def test_where_mongodb_is_must_be_said(template: Template) -> None:
    with pytest.raises(CommandError, match=r"mongodb\.existingSecret\.name"):
        template()
    with pytest.raises(CommandError, match="set one of"):
        template(MONGODB, "--set=mongodb.uri=mongodb://db/")


@pytest.mark.parametrize(
    "value",
    [
        "replicas=many",
        "isolation=none",
        "image.digest=latest",
        "watchNamespaces={Not A Name}",
        "mongodb.uri=postgres://db/",
        "mongodb.appsUri=mongodb://user:pw@db/",
        "secretWatch.enable=false",
        "unknown=1",
    ],
)
def test_a_wrong_value_is_refused_by_its_name(template: Template, value: str) -> None:
    with pytest.raises(CommandError) as refused:
        template(MONGODB, f"--set={value}")
    name = value.partition("=")[0].rpartition(".")[2]
    assert name in refused.value.stderr


def test_the_pod_fits_the_restricted_standard(
    control_plane: Cluster, namespace: str, template: Template
) -> None:
    [deployment] = kinds(template(MONGODB), "Deployment")
    pod = deployment["spec"]["template"]
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "operator", "namespace": namespace, **pod["metadata"]},
        "spec": {**pod["spec"], "serviceAccountName": "default"},
    }
    level = "pod-security.kubernetes.io/enforce=restricted"
    control_plane.kubectl("label", "namespace", namespace, level)
    control_plane.kubectl("create", "--dry-run=server", "-f", "-", manifest=json.dumps(manifest))
    [container] = pod["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_no_secret_stands_in_the_environment(template: Template) -> None:
    documents = template("--set=mongodb.uri=mongodb://op:hunter2@db/")
    [deployment] = kinds(documents, "Deployment")
    assert "hunter2" not in json.dumps(deployment)
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert not [env for env in container["env"] if "secretKeyRef" in json.dumps(env)]


def test_listed_namespaces_get_roles_and_the_cluster_none(template: Template) -> None:
    documents = template(MONGODB, "--set=watchNamespaces={shop,bi}")
    assert kinds(documents, "ClusterRoleBinding") == []
    namespaces = {role["metadata"]["namespace"] for role in kinds(documents, "RoleBinding")}
    assert namespaces == {"shop", "bi", "system"}


@pytest.mark.long
def test_what_lets_mdbapps_go_everywhere_is_made_where_asked_for_and_is_what_is_documented(
    template: Template,
) -> None:
    text = (CHART.parents[1] / "docs" / "operations.md").read_text()
    block = next(part for part in text.split("```yaml")[1:] if "mdb-operator-let-go" in part)
    documented, _ = yaml.safe_load_all(block.partition("```")[0])
    documents = template(MONGODB, "--set=watchNamespaces={shop}", "--set=rbac.letGo=true")
    [binding] = kinds(documents, "ClusterRoleBinding")
    [role] = [
        one
        for one in kinds(documents, "ClusterRole")
        if one["metadata"]["name"] == binding["roleRef"]["name"]
    ]
    assert role["rules"] == documented["rules"]
    [deployment] = kinds(documents, "Deployment")
    account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account, "namespace": "system"}
    ]
    whole = template(MONGODB)  # which has the right anyway
    assert len(kinds(template(MONGODB, "--set=rbac.letGo=true"), "ClusterRole")) == len(
        kinds(whole, "ClusterRole")
    )


def test_service_bindings_and_people_may_read_mdbapps(template: Template) -> None:
    roles = {
        label: role
        for role in kinds(template(MONGODB), "ClusterRole")
        for label in role["metadata"]["labels"]
    }
    assert roles["servicebinding.io/controller"]["rules"] == [
        {
            "apiGroups": ["mdb-engine.dev"],
            "resources": ["mdbapps"],
            "verbs": ["get", "list", "watch"],
        }
    ]
    assert "rbac.authorization.k8s.io/aggregate-to-view" in roles
