"""The authority that certifies apps: what it takes, what it signs, and when it refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import SecretStr
from pymongo.errors import ServerSelectionTimeoutError
from structlog.testing import capture_logs
from support.certificates import Authority

from mdb_engine.exceptions import KeyManagerUnavailable
from mdb_engine.registry.models.privileges import user_subject
from mdb_operator.config import Config
from mdb_operator.exceptions import ConfigurationInvalid
from mdb_operator.mongodb.certificates import CertificateFiles
from mdb_operator.mongodb.issuer import AppCertificates, Issuer, load_issuer

LIFE = timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def mounted(authority: Authority, tmp_path: Path) -> Path:
    return authority.write_issuer(tmp_path / "issuer")


def load(mounted: Path) -> Issuer:
    return load_issuer((mounted / "tls.crt").read_text(), (mounted / "tls.key").read_text())


def config(mounted: Path) -> Config:
    return Config(mongodb_uri=SecretStr("mongodb://db"), mongodb_apps_issuer_dir=mounted)


class Door:
    """A MongoDB that is knocked at."""

    def __init__(self, *, opens: bool = True) -> None:
        self.opens, self.knocks = opens, 0

    async def knock(self, pem: SecretStr) -> None:
        assert "PRIVATE KEY" in pem.get_secret_value()
        self.knocks += 1
        if not self.opens:
            raise ServerSelectionTimeoutError("closed")


def certificates(
    mounted: Path,
    door: Door | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> AppCertificates:
    knock = (door or Door()).knock
    return AppCertificates(lambda: load(mounted), "mdb", LIFE, clock, knock)


async def test_a_certificate_is_of_one_version_of_one_registration_and_good_for_clients_alone(
    mounted: Path,
) -> None:
    issuer = load(mounted)
    told, pem = await certificates(mounted).issue("shop", 3, "0a1b")
    [made, *above] = x509.load_pem_x509_certificates(pem.get_secret_value().encode())
    assert made.subject.rfc4514_string() == user_subject("mdb", "shop", 3, "0a1b")
    assert above == []  # the root is what MongoDB has
    own = issuer.certificate.public_key()
    own.verify(made.signature, made.tbs_certificate_bytes, ECDSA(SHA256()))  # type: ignore[union-attr,call-arg,arg-type]
    assert (told.issuer, told.expires_at) == (issuer.key_id, made.not_valid_after_utc)
    assert made.not_valid_after_utc <= issuer.certificate.not_valid_after_utc
    extensions = made.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    key = load_pem_private_key(pem.get_secret_value().encode(), None)
    assert key.public_key() == made.public_key()
    _, again = await certificates(mounted).issue("shop", 3, "0a1b")
    assert again != pem


async def test_certificates_between_authority_and_root_are_shown_with_the_clients(
    mounted: Path, authority: Authority
) -> None:
    middle = authority.issue("middle", []).read_text().partition("-----BEGIN PRIVATE")[0]
    (mounted / "tls.crt").write_text((mounted / "tls.crt").read_text() + middle)
    _, pem = await certificates(mounted).issue("shop", 1, "0a")
    assert pem.get_secret_value().count("BEGIN CERTIFICATE") == 2


async def test_an_authority_is_tried_before_its_first_certificate_and_once(mounted: Path) -> None:
    door = Door()
    issuing = certificates(mounted, door)
    await issuing.issue("shop", 1, "0a")
    await issuing.issue("shop", 2, "0a")
    assert door.knocks == 1


async def test_an_authority_that_mongodb_does_not_take_certifies_nobody(mounted: Path) -> None:
    door = Door(opens=False)
    issuing = certificates(mounted, door)
    for _ in range(3):  # nor is it tried by each app anew
        with pytest.raises(KeyManagerUnavailable, match=r"net\.tls\.CAFile"):
            await issuing.issue("shop", 1, "0a")
    assert door.knocks == 1


async def test_an_authority_that_ends_certifies_nobody_any_more(mounted: Path) -> None:
    end = load(mounted).certificate.not_valid_after_utc
    with pytest.raises(KeyManagerUnavailable, match=r"ends at .*; renew it"):
        await certificates(mounted, clock=lambda: end - timedelta(minutes=59)).issue("shop", 1, "a")
    near, _ = await certificates(mounted, clock=lambda: end - LIFE / 12).issue("shop", 1, "a")
    assert near.expires_at == end  # no longer than its authority


def no_authority(mounted: Path, authority: Authority) -> str:
    pem = authority.issue("shop", []).read_text()
    certificate, marker, key = pem.partition("-----BEGIN PRIVATE")
    (mounted / "tls.crt").write_text(certificate)
    (mounted / "tls.key").write_text(marker + key)
    return r"not an authority's \(isCA: true\)"


def foreign_key(mounted: Path, authority: Authority) -> str:
    pem = authority.issue("other", []).read_text()
    (mounted / "tls.key").write_text("".join(pem.partition("-----BEGIN PRIVATE")[1:]))
    return "does not belong to the first certificate"


def half_written(mounted: Path, _: Authority) -> str:
    (mounted / "tls.key").write_text("-----BEGIN PRIVATE KEY-----\n")
    return "not valid PEM"


def gone(mounted: Path, _: Authority) -> str:
    (mounted / "tls.crt").unlink()
    return "No such file"


@pytest.mark.parametrize("harm", [no_authority, foreign_key, half_written, gone])
def test_what_is_no_authority_stops_the_start_and_changes_nothing_later(
    mounted: Path, authority: Authority, harm: Callable[[Path, Authority], str]
) -> None:
    given = CertificateFiles(config(mounted))
    before = given.read()
    assert before.issuer == load(mounted).key_id
    secret = (mounted / "tls.key").read_text().splitlines()[-3]
    problem = harm(mounted, authority)
    with capture_logs() as logs:
        assert given.read() == before
        assert given.read() == before
    [told] = logs
    with pytest.raises(ConfigurationInvalid, match=problem) as caught:
        CertificateFiles(config(mounted))
    for text in (str(caught.value), str(told), repr(given.issuer)):
        assert secret not in text
        assert "PRIVATE KEY" not in text
    authority.write_issuer(mounted)
    assert given.read() == before
