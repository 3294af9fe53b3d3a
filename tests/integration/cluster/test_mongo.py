from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from support import certificates
from support.waiting import wait_until

from devcluster import mongo_daemon
from devcluster.errors import DevclusterError
from devcluster.filelock import is_held
from devcluster.mongo import MongoConfig, MongoServer, TlsFiles
from devcluster.mongo_cli import mongo as command
from devcluster.mongo_data import ALIVE, data_root, remove_dead_data

Client = MongoClient[dict[str, Any]]


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the commands of these tests away from a server that the user runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("MDB_TEST_URI", raising=False)


@pytest.fixture
def name() -> Iterator[str]:
    """Give the name of a server that is stopped after the test."""
    yield "try"
    mongo_daemon.down("try")


def test_up_prints_the_uri_alone_and_a_second_up_changes_nothing(name: str) -> None:
    runner = CliRunner()

    first = runner.invoke(command, ["up", "--name", name])
    second = runner.invoke(command, ["up", "--name", name])

    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("mongodb://127.0.0.1:")
    assert first.stdout.count("\n") == 1
    assert second.stdout == first.stdout
    assert runner.invoke(command, ["uri", "--name", name]).stdout == first.stdout
    with Client(first.stdout.strip()) as client, client.start_session() as session:
        with session.start_transaction():
            client.try_db.notes.insert_one({}, session=session)
        assert client.try_db.notes.count_documents({}) == 1


def test_down_leaves_no_process_and_no_file(name: str, tmp_path: Path) -> None:
    uri = mongo_daemon.up(name, MongoConfig())
    record = next((tmp_path / "state").rglob("mongo.json"))
    data = next(path for path in data_root().glob("devcluster-mongo-*") if _is_of(path, uri))

    assert record.stat().st_mode & 0o077 == 0
    assert data.stat().st_mode & 0o077 == 0
    assert mongo_daemon.down(name) is True
    assert mongo_daemon.down(name) is False
    assert not data.exists()
    assert not record.exists()
    with pytest.raises(DevclusterError, match=r"(?s)No MongoDB named 'try'.*mongo up"):
        mongo_daemon.uri(name)


@pytest.mark.long
def test_up_after_a_kill_starts_anew_and_removes_the_remains(name: str) -> None:
    first = mongo_daemon.up(name, MongoConfig())
    data = next(path for path in data_root().glob("devcluster-mongo-*") if _is_of(path, first))
    pid = int((data / "mongod.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_held(data / ALIVE), message="the killed server is gone")

    second = mongo_daemon.up(name, MongoConfig())

    assert _listens(second)
    assert not data.exists()


def test_a_server_whose_command_was_killed_before_it_noted_it_is_found(
    name: str, tmp_path: Path
) -> None:
    uri = mongo_daemon.up(name, MongoConfig())
    next((tmp_path / "state").rglob("mongo.json")).unlink()

    assert mongo_daemon.down(name) is True
    assert not _listens(uri)


def test_other_hosts_reach_it_on_the_address_that_it_is_told(name: str) -> None:
    result = CliRunner().invoke(command, ["up", "--name", name, "--bind", "127.0.0.2"])

    assert result.stdout.startswith("mongodb://127.0.0.2:"), result.output
    with Client(result.stdout.strip()) as client:
        assert client.admin.command("hello")["me"].startswith("127.0.0.2:")


def test_an_address_of_another_machine_is_refused(name: str) -> None:
    with pytest.raises(DevclusterError, match=r"(?s)cannot listen on 192\.0\.2\.1.*this machine"):
        mongo_daemon.up(name, MongoConfig(bind=("192.0.2.1",)))


@pytest.mark.long
def test_two_names_are_two_servers(name: str) -> None:
    first = mongo_daemon.up(name, MongoConfig())
    other = mongo_daemon.up("other", MongoConfig(auth=True))
    try:
        assert first != other
        mongo_daemon.down("other")
        assert _listens(first)
    finally:
        mongo_daemon.down("other")


def test_a_running_server_with_another_setting_is_not_passed_off(name: str) -> None:
    mongo_daemon.up(name, MongoConfig())

    with pytest.raises(DevclusterError, match=r"(?s)without authentication.*mongo down --name"):
        mongo_daemon.up(name, MongoConfig(auth=True))


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(DevclusterError, match=f"Port {port} is taken"):
            MongoServer(MongoConfig(port=port)).start()
        with pytest.raises(DevclusterError, match=f"Port {port} is taken"):
            MongoServer(MongoConfig(port=port, die_with_parent=True)).start()


def test_a_refused_option_is_reported_in_the_servers_words() -> None:
    config = MongoConfig(parameters={"noSuchParameter": "1"}, die_with_parent=True)

    with pytest.raises(DevclusterError, match="noSuchParameter"):
        MongoServer(config).start()


def test_a_servers_data_and_process_go_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "from devcluster.mongo import *\n"
        "server = MongoServer(MongoConfig(die_with_parent=True)); server.start()\n"
        "print(server.data, server.uri, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        data, uri = parent.stdout.readline().split()
        parent.kill()

    lock = Path(data) / ALIVE
    wait_until(lambda: not is_held(lock), message="the server of a killed parent ends")
    assert not _listens(uri)
    remove_dead_data(data_root())  # what the next start does first
    assert not Path(data).exists()


@pytest.mark.long
def test_a_server_with_tls_accepts_nothing_else(tmp_path: Path) -> None:
    authority = certificates.Authority(tmp_path)
    files = TlsFiles(
        ca=authority.certificate, certificate_and_key=authority.issue("mongod", ["127.0.0.1"])
    )
    config = MongoConfig(auth=True, tls=files, die_with_parent=True)

    with MongoServer(config) as server:
        with Client(server.uri, serverSelectionTimeoutMS=5000) as client:
            client.try_db.notes.insert_one({})
        plain = server.uri.split("&tls=true")[0]
        with (
            Client(plain, serverSelectionTimeoutMS=300) as stranger,
            pytest.raises(PyMongoError),
        ):
            stranger.try_db.notes.find_one()


def test_a_provided_server_is_used_and_never_stopped(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MongoServer(MongoConfig(die_with_parent=True)) as mine:
        monkeypatch.setenv("MDB_TEST_URI", mine.uri)

        assert mongo_daemon.up(name, MongoConfig()) == mine.uri
        assert mongo_daemon.uri(name) == mine.uri
        assert mongo_daemon.down(name) is False
        assert _listens(mine.uri)


def test_a_provided_server_that_is_not_there_is_reported_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mongo_daemon, "PROBE_MILLISECONDS", 100)
    monkeypatch.setenv("MDB_TEST_URI", "mongodb://u:very-secret@127.0.0.1:1/?replicaSet=x")

    with pytest.raises(DevclusterError, match="MDB_TEST_URI names does not answer") as caught:
        mongo_daemon.provided_uri()
    assert "very-secret" not in str(caught.value)


def _is_of(data: Path, uri: str) -> bool:
    return f'"port":{_port(uri)}' in (data / "mongod.log").read_text()


def _listens(uri: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", _port(uri))) == 0


def _port(uri: str) -> int:
    return int(
        uri.rsplit("@", maxsplit=1)[-1].removeprefix("mongodb://").split("/")[0].split(":")[1]
    )
