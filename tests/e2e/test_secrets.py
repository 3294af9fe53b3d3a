"""Where an app's secret is, that it comes back, and that another app's is good for nothing."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator

import pytest
from support import leakscan
from support.multi_app import OPERATOR, RELEASE, World, mdbapp, pod_spec
from support.waiting import wait_until

pytestmark = pytest.mark.root

SECRET_KEYS = ("app-secret", "password", "session-key", "uri")
"""What of a binding is secret; the rest says who the app is and where MongoDB is."""

HEAL_SECONDS = 2.0

BASE64_ALIGNMENTS = 3


@pytest.fixture(scope="module")
def vault(world: World) -> Iterator[str]:
    """Register an app of this module's own, and give its name."""
    name = f"vault-{secrets.token_hex(4)}"
    world.apply(world.shop, mdbapp(name))
    world.await_app(world.shop, name)
    yield name
    world.cluster.kubectl("-n", world.shop, "delete", "mdbapp", name, "--timeout=50s")


def data_of(world: World, name: str) -> dict[str, str]:
    data: dict[str, str] = world.get(world.shop, f"secret/{name}")["data"]
    for key in SECRET_KEYS:
        leakscan.register(base64.b64decode(data[key]), f"{key} of {name}")
    return data


@pytest.mark.parametrize(
    "harm",
    [
        lambda run, name: run("delete", "secret", name),
        lambda run, name: run("patch", "secret", name, "-p", '{"data": {"uri": "bm93aGVyZQ=="}}'),
        lambda run, name: run("label", "secret", name, "mdb-engine.dev/app-uid-"),
    ],
    ids=["deleted", "edited", "its label removed"],
)
def test_a_secret_that_was_harmed_heals(
    world: World, vault: str, harm: Callable[[Callable[..., str], str], str]
) -> None:
    name = f"{vault}-mdb"
    before = data_of(world, name)
    labels = world.get(world.shop, f"secret/{name}")["metadata"]["labels"]

    harm(lambda *arguments: world.cluster.kubectl("-n", world.shop, *arguments), name)
    harmed = time.monotonic()

    def healed() -> bool:
        found = world.cluster.api.get("Secret", name, world.shop)
        return found is not None and (
            found["data"] == before and found["metadata"]["labels"] == labels
        )

    wait_until(healed, deadline=20, message="the Secret is what it was")
    assert time.monotonic() - harmed < HEAL_SECONDS + 2  # for a machine with two more tests to run


def test_a_pod_that_mounts_another_apps_secret_is_refused_and_says_why(world: World) -> None:
    labels = {"app": f"impostor-{secrets.token_hex(4)}"}
    probe = {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 1}

    def deployment(secret: str) -> dict[str, object]:
        pod = pod_spec(world, secret, app="click-tracker", readinessProbe=probe)
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": labels["app"]},
            "spec": {
                "selector": {"matchLabels": labels},
                "strategy": {"type": "Recreate"},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }

    selector = f"app={labels['app']}"
    kubectl = world.cluster.kubectl
    try:
        world.apply(world.shop, deployment("click-tracker-mdb"))
        rollout = ("rollout", "status", f"deployment/{labels['app']}", "--timeout=50s")
        kubectl("-n", world.shop, *rollout)

        world.apply(world.shop, deployment("dashboard-mdb"))
        why = "is for app click_tracker_dashboard, not 'click_tracker'; mount the Secret that"

        def described() -> str:
            return kubectl("-n", world.shop, "describe", "pods", "-l", selector)

        wait_until(lambda: why in described(), deadline=30, message=described)
        ready = "jsonpath={.status.readyReplicas}"
        assert not kubectl("-n", world.shop, "get", "deployment", labels["app"], "-o", ready)
    finally:
        kubectl("-n", world.shop, "delete", "deployment", labels["app"], "--ignore-not-found")


def test_the_apps_secrets_are_in_their_secrets_and_nowhere_else(world: World) -> None:
    values = {
        f"{key} of {name}": base64.b64decode(data[key]).decode()
        for name in ("click-tracker-mdb", "dashboard-mdb")
        for data in (data_of(world, name),)
        for key in SECRET_KEYS
    }
    keyring = world.get(world.system, f"secret/{OPERATOR}-master-key")["data"]
    values["the master key"] = base64.b64decode(keyring["k1"]).decode()
    places = dict(everything_but_secrets(world))
    assert len(places) > 5
    found = [
        f"{label} in {place}"
        for place, text in places.items()
        for label, value in values.items()
        for form in forms(value)
        if form in text
    ]
    assert found == []
    # The same search finds it where it is, or it could not fail.
    where = world.cluster.kubectl("-n", world.shop, "get", "secrets", "-o", "json")
    assert all(
        any(form in where for form in forms(value))
        for label, value in values.items()
        if label != "the master key"
    )


def forms(value: str) -> set[str]:
    """Return a value as it is and as it looks within base64, wherever in that it begins."""
    raw = value.encode()
    inner = {
        base64.b64encode(b"x" * shift + raw).decode()[4:-4] for shift in range(BASE64_ALIGNMENTS)
    }
    return {value, base64.b64encode(raw).decode(), *inner}


def everything_but_secrets(world: World) -> Iterator[tuple[str, str]]:
    """Yield, by place: every object, the pods' logs, and what Helm tells about the release."""
    kubectl = world.cluster.kubectl
    listable = kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    kinds = ",".join(kind for kind in listable if kind != "secrets")
    for namespace in (world.system, world.shop, world.elsewhere):
        yield (
            f"objects of {namespace}",
            kubectl("-n", namespace, "get", kinds, "-o", "json", "--show-managed-fields"),
        )
        for pod in kubectl("-n", namespace, "get", "pods", "-o", "name").split():
            logs = ("logs", pod, "--all-containers", "--ignore-errors")
            yield f"log of {pod}", kubectl("-n", namespace, *logs)
    for what in ("values", "notes"):
        yield f"helm get {what}", world.cluster.helm("get", what, RELEASE, "-n", world.system)
