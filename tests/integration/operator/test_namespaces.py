"""Listed namespaces that lose their Role or are deleted, while the others have to be served."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.gateway import gateway
from support.installation import ACCOUNT, Installation
from support.installed_operator import CHART
from support.waiting import wait_until

pytestmark = pytest.mark.long

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.fixture
def let_go(installation: Installation) -> Iterator[str]:
    """Give what the documentation says to apply, for this installation."""
    text = OPERATIONS.read_text()
    block = next(part for part in text.split("```yaml")[1:] if "mdb-operator-let-go" in part)
    role, binding = yaml.safe_load_all(block.partition("```")[0])
    name = f"{installation.namespace}-let-go"
    role["metadata"]["name"] = binding["metadata"]["name"] = binding["roleRef"]["name"] = name
    binding["subjects"][0] |= {"name": ACCOUNT, "namespace": installation.namespace}
    yield yaml.safe_dump_all([role, binding])
    installation.cluster.kubectl(
        "delete", "clusterrolebinding,clusterrole", name, "--ignore-not-found"
    )


def take_role(installation: Installation, namespace: str) -> str:
    """Take the operator's right in a namespace; return what gives it back."""
    kept = installation.kubectl("get", "rolebinding", "-o", "yaml", namespace=namespace)
    installation.kubectl("delete", "rolebinding", "--all", namespace=namespace)
    return kept


def test_a_namespace_that_loses_its_role_holds_up_no_other_and_can_be_let_go(
    installation: Installation, let_go: str
) -> None:
    here, bi = installation, installation.others["bi"]
    process = here.start()
    here.apply("ns-stays")
    here.apply("ns-goes", namespace=bi)
    here.wait_condition("ns-stays")
    here.wait_condition("ns-goes", namespace=bi)

    here.stop(process)
    take_role(here, bi)
    process = here.start()
    process.wait_for("A namespace cannot be watched")
    here.apply("ns-next")
    here.wait_condition("ns-next")

    here.cluster.api.delete("Namespace", bi)
    wait_until(
        lambda: here.app("ns-goes", bi)["metadata"].get("deletionTimestamp"),
        message="the deletion of the namespace reaches its MdbApps",
    )
    here.cluster.kubectl("apply", "-f", "-", manifest=let_go)
    here.wait_gone("ns-goes", bi, deadline=60)  # and nothing else holds the namespace
    registered = here.mongo["apps_config"].find_one({"slug": "ns-goes"})
    assert here.mongo["_mdb_engine_grants"].count_documents({"slug": "ns-goes"}) == 0
    assert registered is not None

    here.apply("ns-last")
    here.wait_condition("ns-last")
    here.stop(process)


def test_a_namespace_that_is_taken_out_is_named_and_can_be_let_go_as_documented(
    installation: Installation,
) -> None:
    here, bi = installation, installation.others["bi"]
    process = here.start()
    here.apply("ns-left", namespace=bi)
    here.wait_condition("ns-left", namespace=bi)
    here.stop(process)

    process = here.start(WATCH_NAMESPACES=here.apps)
    line = next(line for line in process.text().splitlines() if "not watched" in line)
    assert json.loads(line) | {"namespace": bi, "apps": 1} == json.loads(line)
    here.cluster.api.delete("MdbApp", "ns-left", bi)
    assert here.app("ns-left", bi)["metadata"]["deletionTimestamp"]
    command = next(
        line.strip() for line in OPERATIONS.read_text().splitlines() if "| xargs -r" in line
    )
    subprocess.run(
        ["/bin/sh", "-ec", command.replace("-n shop", f"-n {bi}")],
        env=here.cluster.environment,
        check=True,
        timeout=60,
    )
    here.wait_gone("ns-left", bi)
    here.stop(process)


def test_a_watch_that_is_refused_comes_back_with_what_happened_in_between(
    installation: Installation,
) -> None:
    here, bi = installation, installation.others["bi"]
    with gateway(here.directory / "kubeconfig") as api:
        process = here.start(RELIST_SECONDS="1")
        here.apply("ns-one", namespace=bi)
        here.wait_condition("ns-one", namespace=bi)
        kept = take_role(here, bi)
        api.cut()
        process.wait_for("A namespace cannot be watched")
        here.apply("ns-two")
        here.wait_condition("ns-two")
        # By force, as somebody would who cannot wait: nothing holds it, and nobody is told.
        here.cluster.api.patch("MdbApp", "ns-one", {"metadata": {"finalizers": None}}, bi)
        here.cluster.api.delete("MdbApp", "ns-one", bi)

        here.cluster.kubectl("apply", "-f", "-", manifest=kept)
        here.apply("ns-three", namespace=bi)
        here.wait_condition("ns-three", namespace=bi, deadline=60)
        wait_until(
            lambda: here.mongo["_mdb_engine_grants"].count_documents({"slug": "ns-one"}) == 0,
            deadline=60,
            message="the end of what went meanwhile",
        )
        assert len(here.processes) == 1
        here.stop(process)


@pytest.fixture
def everywhere(installation: Installation) -> Iterator[None]:
    """Give the operator the chart's rights in the whole cluster."""
    values = (f"--set=serviceAccount.name={ACCOUNT}", f"--set=fullnameOverride={ACCOUNT}")
    text = installation.cluster.helm(
        *("template", "mdb", str(CHART), "-n", installation.namespace, *values),
        *("--set=mongodb.existingSecret.name=x,masterKey.existingSecret=y", "-s"),
        "templates/rbac.yaml",
    )
    kinds = {"ClusterRole", "ClusterRoleBinding"}
    wanted = [
        one
        for one in yaml.safe_load_all(text)
        if one["kind"] in kinds and one["metadata"]["name"].count(":") == 1
    ]
    for manifest in wanted:
        installation.cluster.api.apply(manifest)
    yield
    for manifest in wanted:
        installation.cluster.api.delete(manifest["kind"], manifest["metadata"]["name"])


@pytest.mark.usefixtures("everywhere")
def test_an_excluded_namespace_is_left_alone_while_all_others_are_handled(
    installation: Installation,
) -> None:
    here, bi = installation, installation.others["bi"]
    # The cluster is shared: of all its namespaces only this class of MdbApps is ours.
    mine: dict[str, Any] = {"operatorClass": here.namespace}
    settings: dict[str, Any] = {
        "WATCH_NAMESPACES": "",
        "OPERATOR_CLASS": here.namespace,
        "RELIST_SECONDS": "1",
    }
    process = here.start(**settings)
    here.apply("ns-before", namespace=bi, **mine)
    here.wait_condition("ns-before", namespace=bi)
    here.stop(process)

    process = here.start(**settings, EXCLUDE_NAMESPACES=bi)
    line = next(line for line in process.text().splitlines() if "not watched" in line)
    assert json.loads(line) | {"namespace": bi, "apps": 1} == json.loads(line)
    before = here.app("ns-before", bi)
    here.kubectl("delete", "secret", "ns-before-mdb", namespace=bi)
    here.apply("ns-excluded", namespace=bi, **mine)
    here.apply("ns-handled", **mine)
    here.wait_condition("ns-handled")
    excluded = here.app("ns-excluded", bi)
    assert "finalizers" not in excluded["metadata"]
    assert excluded["status"] == {"observedGeneration": -1}
    assert here.app("ns-before", bi) == before
    assert here.get("Secret", "ns-before-mdb", bi) is None, "nobody looks after it any more"
    assert here.mongo["apps_config"].find_one({"slug": "ns-before"})["state"] == "active"
    here.stop(process)

    process = here.start(**settings)
    here.wait_condition("ns-excluded", namespace=bi)
    wait_until(lambda: here.get("Secret", "ns-before-mdb", bi), message="it is repaired again")
    here.stop(process)
