from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.clusters import Cluster
from support.operator_edge import desired_secret, writes

from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import LABEL_OWNER_UID, SECRET_KEYS, SECRET_TYPE
from mdb_operator.exceptions import AlreadyExists, Conflict, Invalid
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.resources import SECRETS
from mdb_operator.kubernetes.secrets import Projection, SecretStore

NAME = "dashboard-mdb"

Requests = list[tuple[str, str, int]]


@pytest.fixture
def store(kube: KubeClient) -> SecretStore:
    return SecretStore(kube)


@pytest.fixture
def app(make_app: Callable[..., Owner]) -> Owner:
    return make_app()


def read(control_plane: Cluster, namespace: str) -> dict[str, Any]:
    found = control_plane.api.get("Secret", NAME, namespace)
    assert found is not None
    return found


async def test_a_new_secret_has_type_keys_label_and_owner(
    control_plane: Cluster, namespace: str, store: SecretStore, app: Owner, requests: Requests
) -> None:
    assert await store.project(desired_secret(app)) is Projection.CREATED
    found = read(control_plane, namespace)
    assert found["type"] == SECRET_TYPE
    assert set(found["data"]) == set(SECRET_KEYS)
    assert found["metadata"]["labels"][LABEL_OWNER_UID] == app.uid
    [owner] = found["metadata"]["ownerReferences"]
    assert owner["uid"] == app.uid
    assert owner["controller"] is True
    requests.clear()
    assert await store.project(desired_secret(app)) is Projection.UNCHANGED
    assert writes(requests) == []


@pytest.mark.parametrize(
    "damage",
    [
        ["patch", "secret", NAME, "--type=merge", '-p={"stringData":{"app-secret":"forged"}}'],
        ["patch", "secret", NAME, "--type=merge", '-p={"stringData":{"added":"x"}}'],
        ["patch", "secret", NAME, "--type=merge", '-p={"data":{"app-secret":null}}'],
        ["label", "secret", NAME, f"{LABEL_OWNER_UID}-"],
        ["patch", "secret", NAME, "--type=merge", '-p={"metadata":{"ownerReferences":null}}'],
        ["patch", "secret", NAME, "--type=merge", '-p={"immutable":true}'],
    ],
    ids=["edited", "added", "removed", "unlabelled", "disowned", "frozen"],
)
async def test_damage_is_repaired_to_exactly_what_it_was(
    control_plane: Cluster, namespace: str, store: SecretStore, app: Owner, damage: list[str]
) -> None:
    await store.project(desired_secret(app))
    control_plane.kubectl("annotate", "secret", NAME, "-n", namespace, "team=kept")
    before = read(control_plane, namespace)
    control_plane.kubectl(*damage, "-n", namespace)
    assert await store.project(desired_secret(app)) is Projection.REPAIRED
    after = read(control_plane, namespace)
    for field in ("data", "type", "immutable"):
        assert after.get(field) == before.get(field)
    for field in ("labels", "ownerReferences"):
        assert after["metadata"][field] == before["metadata"][field]
    if after["metadata"]["uid"] == before["metadata"]["uid"]:
        assert after["metadata"]["annotations"] == {"team": "kept"}
    assert await store.project(desired_secret(app)) is Projection.UNCHANGED


async def test_a_secret_that_a_finalizer_holds_at_its_end_is_told_and_made_anew_after_it(
    control_plane: Cluster, namespace: str, store: SecretStore, app: Owner, requests: Requests
) -> None:
    await store.project(desired_secret(app))
    held = {"metadata": {"finalizers": ["example.com/held"]}, "immutable": True}
    patch = ("patch", "secret", NAME, "-n", namespace, "--type=merge")
    control_plane.kubectl(*patch, f"-p={json.dumps(held)}")
    rotated = desired_secret(app, value="rotated")
    for _ in range(2):  # an immutable one has to be deleted first, and then is on its way out
        assert await store.project(rotated) is Projection.HELD
    requests.clear()
    assert await store.project(rotated) is Projection.HELD
    assert writes(requests) == []
    control_plane.kubectl(*patch, '-p={"metadata":{"finalizers":null}}')
    assert await store.project(rotated) is Projection.CREATED


async def test_a_secret_that_is_not_ours_is_never_touched(
    control_plane: Cluster, namespace: str, store: SecretStore, app: Owner, requests: Requests
) -> None:
    control_plane.kubectl(
        "create", "secret", "generic", NAME, "-n", namespace, "--from-literal=app-secret=theirs"
    )
    before = read(control_plane, namespace)
    requests.clear()
    assert await store.project(desired_secret(app)) is Projection.CONFLICT
    assert await store.delete_if_ours(namespace, NAME, app.uid) is False
    assert writes(requests) == []
    assert read(control_plane, namespace) == before


async def test_a_secret_that_lost_label_and_owner_is_not_ours_any_more(
    control_plane: Cluster, namespace: str, store: SecretStore, app: Owner
) -> None:
    await store.project(desired_secret(app))
    control_plane.kubectl(
        *("patch", "secret", NAME, "-n", namespace, "--type=merge"),
        f'-p={{"metadata":{{"ownerReferences":null,"labels":{{"{LABEL_OWNER_UID}":null}}}}}}',
    )
    assert await store.project(desired_secret(app)) is Projection.CONFLICT


async def test_the_secret_of_an_app_created_again_belongs_to_another_owner(
    namespace: str, store: SecretStore, app: Owner
) -> None:
    await store.project(desired_secret(app))
    reborn = Owner(app.namespace, app.name, "00000000-0000-4000-8000-000000000000")
    assert await store.project(desired_secret(reborn)) is Projection.CONFLICT


async def test_of_many_writers_one_creates_and_none_fails(
    store: SecretStore, app: Owner, requests: Requests
) -> None:
    outcomes = await asyncio.gather(*(store.project(desired_secret(app)) for _ in range(8)))
    assert outcomes.count(Projection.CREATED) == 1
    assert set(outcomes) <= {Projection.CREATED, Projection.UNCHANGED}
    assert writes(requests).count("update") == 0


async def test_a_change_in_between_is_noticed(
    namespace: str, store: SecretStore, app: Owner
) -> None:
    await store.project(desired_secret(app))
    seen = await store.get_metadata(namespace, NAME)
    assert seen is not None
    await store.project(desired_secret(app, value="newer"))
    with pytest.raises(Conflict):
        await store.replace(desired_secret(app, value="older").manifest(seen))
    with pytest.raises(AlreadyExists):
        await store.create(namespace, desired_secret(app).manifest())
    with pytest.raises(Conflict):
        await store.set_entries(seen, {"app-secret": b"older"})


async def test_only_ours_is_deleted(namespace: str, store: SecretStore, app: Owner) -> None:
    await store.project(desired_secret(app))
    assert await store.delete_if_ours(namespace, NAME, "someone-else") is False
    assert await store.delete_if_ours(namespace, NAME, app.uid) is True
    assert await store.read(namespace, NAME) is None
    assert await store.delete_if_ours(namespace, NAME, app.uid) is False


async def test_metadata_come_without_the_values(
    kube: KubeClient, namespace: str, store: SecretStore, app: Owner
) -> None:
    await store.project(desired_secret(app))
    obj = await kube.get(SECRETS, namespace, NAME, metadata_only=True)
    assert obj["kind"] == "PartialObjectMetadata"
    assert "data" not in obj


async def test_a_refusal_names_the_field_and_no_value(
    namespace: str, kube: KubeClient, app: Owner
) -> None:
    manifest = desired_secret(app).manifest()
    manifest["data"]["not a key"] = base64.b64encode(b"hunter2").decode()
    manifest["metadata"]["labels"]["bad label"] = "hunter2"
    with pytest.raises(Invalid) as refused:
        await kube.create(SECRETS, namespace, manifest)
    assert "fields" in refused.value.message
    assert "hunter2" not in refused.value.message
    manifest["data"] = {"app-secret": "hunter2: not base64"}
    with pytest.raises(Invalid) as refused:
        await kube.create(SECRETS, namespace, manifest)
    assert "hunter2" not in refused.value.message
