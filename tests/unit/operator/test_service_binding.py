"""What the Service Binding specification asks of a Provisioned Service, each by its sentence.

https://servicebinding.io/spec/core/1.1.0/ - *Provisioned Service* and *Well-known Secret Entries*.
What only the API server can show is in ``tests/integration/operator/test_reconcile.py``.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from pydantic import SecretStr
from support.certificates import Authority

from mdb_engine.core.secret import Credentials, RevealedSecrets
from mdb_engine.registry.models.app import Owner
from mdb_operator.apps.projection import Address, projected_data
from mdb_operator.constants import SECRET_TYPE
from mdb_operator.crd.render import crd
from mdb_operator.kubernetes.secrets import DesiredSecret
from mdb_operator.mongodb.certificates import Certificates

CHART = Path(__file__).parents[3] / "charts" / "mdb-operator"

DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*")
URI = re.compile(
    r"[a-z][a-z0-9+.-]*://"
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:%-]*@)?"  # userinfo
    r"(?:\[[0-9a-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?"  # host, port
    r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?"
)
"""RFC 3986, appendix A: ``scheme "://" authority path-abempty [ "?" query ]``."""

URIS = (
    "mongodb://db",
    "mongodb://db:27018",
    "mongodb://10.0.0.7:27017/?replicaSet=rs0",
    "mongodb://[fd00::1]:27018/",
    "mongodb://db-0.db.shop:27017,db-1.db.shop:27017,db-2.db.shop:27017/?replicaSet=rs0",
    "mongodb://db-0.db.shop,db-1.db.shop/?replicaSet=rs0",
    "mongodb+srv://cluster.example/?tls=true",
)


def data_of(uri: str, certificates: Certificates = Certificates()) -> dict[str, str]:  # noqa: B008
    secret = SecretStr("p@ss/wörd")
    revealed = RevealedSecrets(
        "orders", Credentials(1, secret, secret, secret), (), "k1", datetime.now(UTC)
    )
    address = Address.parse(SecretStr(uri), None, "mdb", "database")
    return projected_data(address, revealed, certificates)


def test_status_binding_is_a_reference_with_a_name_and_nothing_else() -> None:
    version: Any = crd()["spec"]["versions"][0]
    binding = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["binding"]
    assert list(binding["properties"]) == ["name"]
    assert binding["properties"]["name"]["type"] == "string"


def test_the_secret_is_in_the_namespace_of_the_resource() -> None:
    secret = DesiredSecret(Owner("shop", "orders", "uid"), "orders-mdb", data_of(URIS[0]))
    assert secret.manifest()["metadata"]["namespace"] == "shop"


def test_type_and_provider_are_there_and_the_secrets_type_is_that_of_its_data() -> None:
    data = data_of(URIS[0])
    assert data["type"] == "mongodb"
    assert data["provider"] == "mdb-operator"
    assert f"servicebinding.io/{data['type']}" == SECRET_TYPE


def test_the_crd_is_labelled_as_a_provisioned_service() -> None:
    assert crd()["metadata"]["labels"] == {"servicebinding.io/provisioned-service": "true"}


def test_a_cluster_role_lets_implementations_read() -> None:
    text = (CHART / "templates" / "rbac.yaml").read_text()
    (part,) = [one for one in text.split("---") if "servicebinding.io/controller" in one]
    rules: Any = yaml.safe_load(part[part.index("rules:") :].split("{{")[0])["rules"]
    assert rules == [
        {
            "apiGroups": ["mdb-engine.dev"],
            "resources": ["mdbapps"],
            "verbs": ["get", "list", "watch"],
        }
    ]


@pytest.mark.parametrize("uri", URIS)
def test_host_is_one_dns_name_or_address_and_port_a_port(uri: str) -> None:
    data = data_of(uri)
    if uri.startswith("mongodb+srv"):  # the name has no address of its own
        assert not {"host", "port"} & data.keys()
        return
    try:
        ipaddress.ip_address(data["host"])
    except ValueError:
        assert DNS_NAME.fullmatch(data["host"]), data["host"]
    assert 1 <= int(data["port"]) <= 65535


@pytest.mark.parametrize("uri", URIS)
def test_uri_is_one_of_rfc_3986(uri: str) -> None:
    assert URI.fullmatch(data_of(uri)["uri"])


def test_username_and_password_are_strings() -> None:
    data = data_of(URIS[0])
    assert data["username"] == "orders.v1"
    assert data["password"]


def test_certificates_are_certificates_in_pem(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    both = authority.certificate.read_text() * 2
    data = data_of(URIS[0], Certificates(authorities=both))
    assert len(x509.load_pem_x509_certificates(data["certificates"].encode())) == 2
    assert "private-key" not in data
