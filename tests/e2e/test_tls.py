"""TLS to MongoDB on real pods: a server that refuses whoever comes without, or uncertified."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pymongo import MongoClient
from support.certificates import Authority
from support.clusters import RESTRICTED, create_namespace
from support.isolation import OPERATOR_USER, operator_uri
from support.multi_app import (
    OPERATOR,
    TRIAL,
    World,
    forwarded,
    forwarded_port,
    install_release,
    mdbapp,
    remove_release,
    run_click_tracker,
)
from support.waiting import wait_until

from mdb_operator.mongodb.rights import EXTERNAL_ROLE, create_external_role_command

pytestmark = [pytest.mark.long, pytest.mark.root]

DATABASE = "tls"

KNOCK = """
import pathlib, pymongo
binding = pathlib.Path("/bindings/mdb")
trusting = {"tlsCAFile": f"{binding}/certificates"}
certified = {"tlsCertificateKeyFile": f"{binding}/client-certificate", **trusting}
for who, options, patience in (
    ("certified", certified, 10_000), ("uncertified", trusting, 500), ("plain", {"tls": False}, 500)
):
    with pymongo.MongoClient(
        (binding / "uri").read_text(), serverSelectionTimeoutMS=patience, **options
    ) as client:
        try:
            client[(binding / "database").read_text()]["click_tracker_clicks"].find_one()
            print("served", who)
        except pymongo.errors.ServerSelectionTimeoutError:
            print("refused", who)
"""
"""Which clients an app's pod could be with what is mounted there, and how each fares."""


@dataclass(frozen=True)
class Installed:
    """A release whose MongoDB demands TLS.

    Parameters
    ----------
    world
        Where.
    system, apps
        The namespaces of the operator and of the apps.
    authority
        Who certifies server, operator and apps.
    """

    world: World
    system: str
    apps: str
    authority: Authority

    def put_secret(self, name: str, kind: str = "Opaque", **files: Path) -> None:
        """Make a Secret of the operator's namespace, or change it."""
        entries = {key.replace("_", "."): file.read_text() for key, file in files.items()}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind}
        self.world.apply(self.system, {**secret, "stringData": entries})

    def put_operators_certificates(self) -> None:
        """Certify the operator, perhaps anew, and have it mounted."""
        own = self.authority.issue("operator", [])
        self.put_secret("mongodb-tls", ca_crt=self.authority.certificate, own_pem=own)

    def operator_pod(self) -> dict[str, Any]:
        """Return the operator's one pod."""
        pods: list[dict[str, Any]] = self.world.get(self.system, "pods")["items"]
        [pod] = [one for one in pods if one["metadata"]["name"].startswith(OPERATOR)]
        return pod


def run_mongod(world: World, here: Installed, host: str) -> None:
    """Run the trial MongoDB's pod once more, beside the operator, with TLS."""
    key_file = world.get(world.system, f"secret/{TRIAL}")["data"]["keyfile"]
    pod = world.get(world.system, f"statefulset/{TRIAL}")["spec"]["template"]["spec"]
    pod["containers"] = [one for one in pod["containers"] if one["name"] == "mongod"]
    [container] = pod["containers"]
    container["args"] += [
        "--tlsMode=requireTLS",
        "--tlsCAFile=/tls/ca.crt",
        "--tlsCertificateKeyFile=/tls/server.pem",
    ]
    container["volumeMounts"].append({"name": "tls", "mountPath": "/tls", "readOnly": True})
    pod["volumes"].append({"name": "tls", "secret": {"secretName": "server", "defaultMode": 0o440}})
    pod["hostAliases"] = [{"ip": "127.0.0.1", "hostnames": [host]}]
    labels = {"app": "mongodb"}
    world.apply(
        here.system,
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": TRIAL},
            "data": {"keyfile": key_file, "operator-password": ""},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "mongodb"},
            "spec": {
                "selector": labels,
                "ports": [{"port": 27017}],
                "publishNotReadyAddresses": True,
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "mongodb", "labels": labels},
            "spec": pod,
        },
    )
    ready = ("wait", "--for=condition=Ready", "--timeout=50s", "pod/mongodb")
    world.cluster.kubectl("-n", here.system, *ready)


def set_up_mongod(world: World, here: Installed, host: str) -> str:
    """Make a replica set and the operator's user, as an administrator; return the user's URI."""
    key = base64.b64decode(world.get(here.system, f"secret/{TRIAL}")["data"]["keyfile"]).decode()
    with forwarded_port(world, "pod/mongodb", 27017, here.system) as port:
        administrator: MongoClient[dict[str, Any]] = MongoClient(
            f"mongodb://127.0.0.1:{port}/",
            directConnection=True,
            username="__system",
            password=key,
            authSource="local",
            tlsCAFile=str(here.authority.certificate),
            tlsCertificateKeyFile=str(here.authority.issue("administrator", [])),
        )
        with administrator:
            member = {"_id": 0, "host": f"{host}:27017"}
            administrator.admin.command("replSetInitiate", {"_id": "rs0", "members": [member]})
            wait_until(
                lambda: administrator.admin.command("hello")["isWritablePrimary"],
                message="a primary",
            )
            uri = f"mongodb://{host}:27017/?replicaSet=rs0"
            made = operator_uri(uri, administrator[DATABASE])
            administrator.admin.command(create_external_role_command())
            role = {"role": EXTERNAL_ROLE, "db": "admin"}
            administrator[DATABASE].command("grantRolesToUser", OPERATOR_USER, roles=[role])
            return made


@pytest.fixture(params=["shared"])
def installed(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Installed]:
    """Run a MongoDB that demands TLS and certificates, and a release that is told of them.

    Apps share a certificate beside their passwords, or have one of their `own` to log in by.
    """
    token = secrets.token_hex(4)
    here = Installed(world, f"tls-{token}", f"tls-apps-{token}", Authority(tmp_path))
    for name in (here.system, here.apps):
        create_namespace(world.cluster, name, RESTRICTED)
    host = f"mongodb.{here.system}.svc"
    server = here.authority.issue("server", [host, "127.0.0.1"])
    here.put_secret("server", ca_crt=here.authority.certificate, server_pem=server)
    run_mongod(world, here, host)
    (tmp_path / "uri").write_text(set_up_mongod(world, here, host))
    here.put_secret("mongodb", uri=tmp_path / "uri")
    here.put_operators_certificates()
    apps = {"appsExistingSecret": "mongodb-tls-apps", "appsCertificateKey": "apps.pem"}
    if request.param == "own":
        issuer = here.authority.write_issuer(tmp_path / "issuer")
        files = {"tls_crt": issuer / "tls.crt", "tls_key": issuer / "tls.key"}
        here.put_secret("mdb-apps-ca", "kubernetes.io/tls", **files)
        apps = {"appsIssuerSecret": "mdb-apps-ca"}
    else:
        here.put_secret("mongodb-tls-apps", apps_pem=here.authority.issue("apps", []))

    mongodb = {
        "existingSecret": {"name": "mongodb"},
        "database": DATABASE,
        "tls": {
            "existingSecret": "mongodb-tls",
            "certificateKey": "own.pem",
            **apps,
        },
    }
    install_release(world, here.system, here.apps, tmp_path, mongodb)
    yield here
    remove_release(world, here.system, here.apps)


def serve_only_the_certified(world: World, installed: Installed) -> None:
    """Run an app, and knock at MongoDB from its pod."""
    run_click_tracker(world, installed.apps)
    with forwarded(world, "click-tracker", installed.apps) as url:
        click = {"user_id": "ada", "url": "/"}
        assert httpx.post(f"{url}/track", json=click, timeout=10).is_success
        clicks = httpx.get(f"{url}/clicks", timeout=10).raise_for_status().json()["clicks"]
        assert [one["user_id"] for one in clicks] == ["ada"]

    knock = ("exec", "deployment/click-tracker", "--", "python", "-c", KNOCK)
    assert world.cluster.kubectl("-n", installed.apps, *knock).splitlines() == [
        "served certified",
        "refused uncertified",
        "refused plain",
    ]


@pytest.mark.parametrize("installed", ["own"], indirect=True)
def test_an_app_logs_in_by_a_certificate_of_its_own_that_the_operator_made(
    world: World, installed: Installed
) -> None:
    serve_only_the_certified(world, installed)
    found = world.get(installed.apps, "secret/click-tracker-mdb")["data"]
    entries = {key: base64.b64decode(text).decode() for key, text in found.items()}
    assert entries["username"].startswith("CN=click_tracker.v1,OU=")
    assert entries["password"] == ""
    assert "MONGODB-X509" in entries["uri"]


def test_operator_and_apps_reach_a_mongodb_that_demands_certificates_and_follow_new_ones(
    world: World, installed: Installed, tmp_path: Path
) -> None:
    serve_only_the_certified(world, installed)
    key = (tmp_path / "operator.pem").read_text().splitlines()[-3]
    entries = world.get(installed.apps, "secret/click-tracker-mdb")["data"]
    assert key not in [
        line for text in entries.values() for line in base64.b64decode(text).decode().splitlines()
    ]

    installed.put_operators_certificates()
    name = installed.operator_pod()["metadata"]["name"]
    # kubelet looks at a pod's volumes when the pod changes; by itself once a minute.
    touch = ("annotate", "pod", name, "test/refreshed=1")
    world.cluster.kubectl("-n", installed.system, *touch)
    wait_until(
        lambda: installed.operator_pod()["status"]["containerStatuses"][0]["restartCount"],
        deadline=30,
        message="the operator starts with its new certificate",
    )
    before = world.cluster.kubectl("-n", installed.system, "logs", name, "--previous")
    assert "A certificate for MongoDB has changed" in before
    world.apply(installed.apps, mdbapp("late"))
    world.await_app(installed.apps, "late")
