"""Which change of a mounted file ends the process, and which does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.certificates import Authority
from support.waiting import wait_until_async

from mdb_operator.config import Config
from mdb_operator.exceptions import ConfigurationInvalid, OperatorError
from mdb_operator.mongodb.certificates import CertificateFiles, own_certificates
from mdb_operator.process.files import ConnectionFiles


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def config(tmp_path: Path, authority: Authority) -> Config:
    (tmp_path / "uri").write_text("mongodb://op:first@db/")
    authority.issue("operator", [])
    authority.issue("apps", [])
    return Config(
        mongodb_uri_file=tmp_path / "uri",
        mongodb_tls_ca_file=authority.certificate,
        mongodb_tls_certificate_file=tmp_path / "operator.pem",
        mongodb_apps_certificate_file=tmp_path / "apps.pem",
    )


def other_uri(directory: Path, _: Authority) -> None:
    (directory / "uri").write_text("mongodb://op:second@db/")


def other_authorities(directory: Path, _: Authority) -> None:
    (directory / "other").mkdir()
    bundle = (directory / "ca.pem").read_text() + Authority(
        directory / "other"
    ).certificate.read_text()
    (directory / "ca.pem").write_text(bundle)


def renewed(_: Path, authority: Authority) -> None:
    authority.issue("operator", [])


def half_written(directory: Path, _: Authority) -> None:
    (directory / "operator.pem").write_text("-----BEGIN CERTIFICATE-----\n")


def foreign_key(directory: Path, authority: Authority) -> None:
    """Put another certificate's key beside the certificate."""
    mine = (directory / "operator.pem").read_text()
    other = authority.issue("somebody", []).read_text()
    marker = "-----BEGIN PRIVATE KEY-----"
    (directory / "operator.pem").write_text(mine.split(marker)[0] + marker + other.split(marker)[1])


def no_authority(directory: Path, _: Authority) -> None:
    (directory / "ca.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n"
    )


def gone(directory: Path, _: Authority) -> None:
    (directory / "ca.pem").unlink()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (other_uri, "The URI of MongoDB has changed"),
        (other_authorities, "A certificate for MongoDB has changed"),
        (renewed, "A certificate for MongoDB has changed"),
    ],
)
async def test_a_change_of_the_operators_own_connection_ends_the_process(
    config: Config,
    authority: Authority,
    tmp_path: Path,
    change: Callable[[Path, Authority], None],
    what: str,
) -> None:
    files = ConnectionFiles(config, interval=0.01)
    change(tmp_path, authority)
    with pytest.raises(OperatorError, match=what) as caught:
        async with asyncio.timeout(10):
            await files.end_when_changed()
    assert "second" not in str(caught.value)


@pytest.mark.parametrize("harm", [half_written, foreign_key, no_authority, gone])
async def test_files_that_cannot_be_used_are_told_once_and_end_nothing_until_they_can(
    config: Config,
    authority: Authority,
    tmp_path: Path,
    harm: Callable[[Path, Authority], None],
) -> None:
    good = (tmp_path / "ca.pem").read_text()
    files = ConnectionFiles(config, interval=0.01)
    harm(tmp_path, authority)
    with capture_logs() as logs:
        watching = asyncio.ensure_future(files.end_when_changed())
        await wait_until_async(lambda: logs, message="a warning")
        assert not watching.done()
        (tmp_path / "ca.pem").write_text(good)
        renewed(tmp_path, authority)
        with pytest.raises(OperatorError, match="has changed"):
            async with asyncio.timeout(10):
                await watching
    [told] = logs
    assert "MDB_OPERATOR_MONGODB_TLS_C" in told["error"]
    assert "PRIVATE KEY" not in str(told)


def test_what_apps_are_given_is_no_part_of_the_operators_connection(
    config: Config, authority: Authority
) -> None:
    given = CertificateFiles(config)
    own, apps = own_certificates(config), given.read().client
    authority.issue("apps", [])
    assert given.read().client != apps
    assert own_certificates(config) == own


def test_files_that_cannot_be_used_stop_the_start(config: Config, tmp_path: Path) -> None:
    half_written(tmp_path, Authority(tmp_path))
    with pytest.raises(ConfigurationInvalid, match="MONGODB_TLS_CERTIFICATE_FILE"):
        ConnectionFiles(config)
