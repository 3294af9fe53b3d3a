"""A backup tool brings MdbApps and Secrets back as other objects: with new UIDs, as Velero does.

The app gets a new secret, and the Secret that came back is taken for what it is: the app's own. One
that only looks like it is somebody else's, and stays as it is.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from support.credentials import opens, wait_refused
from support.installation import Installation
from support.waiting import wait_until

from mdb_operator.constants import LABEL_OWNER_UID

pytestmark = pytest.mark.long

KEPT_OF_METADATA = ("name", "labels", "annotations", "finalizers")
"""What Velero restores; UIDs, owners and times are the API server's."""

Manifest = dict[str, Any]


def backed_up(here: Installation, kind: str, name: str) -> Manifest:
    """Return an object as a backup tool restores it."""
    found = here.get(kind, name)
    assert found is not None
    metadata = {key: value for key, value in found["metadata"].items() if key in KEPT_OF_METADATA}
    return {**{k: v for k, v in found.items() if k != "status"}, "metadata": metadata}


def uid(here: Installation, name: str) -> str:
    return str(here.app(name)["metadata"]["uid"])


def wait_deleted(here: Installation, name: str) -> None:
    """Delete an MdbApp, and wait until its Secret is gone with it."""
    here.cluster.api.delete("MdbApp", name, here.apps)
    here.wait_gone(name)
    wait_until(lambda: here.get("Secret", f"{name}-mdb") is None, message="the Secret's end")
    # It is looked for traces of the MdbApp once it is gone, before any other that is new.
    here.apply(f"{name}-after")
    here.wait_condition(f"{name}-after")


def restored(here: Installation, *objects: Manifest) -> None:
    for manifest in objects:
        here.cluster.api.create(manifest, here.apps)


def check_adopted(here: Installation, name: str, former: str, old_uri: str) -> None:
    """See that the app is ready with a Secret of its own that works, and the old one ended."""
    here.wait_condition(name)
    found = here.get("Secret", f"{name}-mdb")
    assert found is not None
    assert found["metadata"]["labels"][LABEL_OWNER_UID] == uid(here, name) != former
    assert [ref["uid"] for ref in found["metadata"]["ownerReferences"]] == [uid(here, name)]
    entries = here.secret(f"{name}-mdb")
    assert entries["secret-version"] == str(here.status(name)["secret"]["version"])
    assert opens(entries["uri"])
    assert entries["uri"] != old_uri
    wait_refused(old_uri, "whoever has the Secret of before the restore")


def test_a_restored_app_takes_its_restored_secret_and_gives_it_what_works(
    running: Installation,
) -> None:
    here = running
    here.apply("velero", collections=[{"name": "c"}])
    here.wait_condition("velero")
    here.mongo["velero_c"].insert_one({"app_id": "velero", "n": 1})
    former, old = uid(here, "velero"), here.secret("velero-mdb")["uri"]
    objects = backed_up(here, "Secret", "velero-mdb"), backed_up(here, "MdbApp", "velero")
    wait_deleted(here, "velero")
    restored(here, *objects)
    check_adopted(here, "velero", former, old)
    assert here.mongo["velero_c"].count_documents({"n": 1}) == 1
    # Once more, from the first backup: its Secret is of the life before the last one.
    wait_deleted(here, "velero")
    restored(here, *objects)
    check_adopted(here, "velero", former, old)


def test_a_restore_over_apps_that_went_without_their_finalizer_is_the_same(
    installation: Installation,
) -> None:
    here = installation
    process = here.start()
    here.apply("lost")
    here.wait_condition("lost")
    former, old = uid(here, "lost"), here.secret("lost-mdb")["uri"]
    objects = backed_up(here, "MdbApp", "lost"), backed_up(here, "Secret", "lost-mdb")
    here.stop(process)
    here.cluster.api.patch("MdbApp", "lost", {"metadata": {"finalizers": None}}, here.apps)
    here.cluster.api.delete("MdbApp", "lost", here.apps)
    here.cluster.api.delete("Secret", "lost-mdb", here.apps)
    wait_until(lambda: here.get("MdbApp", "lost") is None, message="its end")
    restored(here, *objects)
    process = here.start()
    check_adopted(here, "lost", former, old)
    here.stop(process)


def another_uid(secret: Manifest) -> None:
    secret["metadata"]["labels"][LABEL_OWNER_UID] = str(uuid.uuid4())


def another_slug(secret: Manifest) -> None:
    secret["data"]["app-slug"] = base64.b64encode(b"other").decode()


def another_type(secret: Manifest) -> None:
    secret["type"] = "Opaque"


def no_manager(secret: Manifest) -> None:
    del secret["metadata"]["labels"]["app.kubernetes.io/managed-by"]


def no_content(secret: Manifest) -> None:
    secret["data"] = {"app-slug": secret["data"]["app-slug"], "theirs": ""}


def another_controller(secret: Manifest) -> None:
    secret["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "kube-root-ca.crt",
            "uid": secret.pop("controller"),
            "controller": True,
        }
    ]


@pytest.mark.parametrize(
    "forge",
    [another_uid, another_slug, another_type, no_manager, no_content, another_controller],
)
def test_a_secret_that_only_looks_like_the_apps_is_never_touched(
    running: Installation, forge: Callable[[Manifest], None]
) -> None:
    here, name = running, f"forged-{forge.__name__.replace('_', '-')}"
    here.apply(name)
    here.wait_condition(name)
    secret, app = backed_up(here, "Secret", f"{name}-mdb"), backed_up(here, "MdbApp", name)
    wait_deleted(here, name)
    config = here.get("ConfigMap", "kube-root-ca.crt")
    assert config is not None
    secret["controller"] = config["metadata"]["uid"]
    forge(secret)
    secret.pop("controller", None)
    restored(here, secret)
    before = here.get("Secret", f"{name}-mdb")
    restored(here, app)
    message = here.wait_condition(name, "SecretConflict")["message"]
    assert f"{name}-mdb" in message
    assert "binding" not in here.status(name)
    assert here.get("Secret", f"{name}-mdb") == before
