"""A real ``mongod`` for tests: a single-node replica set in a private, throw-away directory.

Always a replica set, because transactions and change streams exist only there. Nothing is kept:
the data lies in memory where there is room, and stopping means killing, because nobody will read
the files again (see `devcluster.mongo_data`).
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from devcluster.errors import DevclusterError
from devcluster.mongo_data import (
    DATA_PREFIX,
    PID_FILE,
    STOP_DEADLINE_SECONDS,
    alive_lock,
    data_root,
    end_server,
    last_words,
    remove_dead_data,
)
from devcluster.mongod_binary import Report, find_mongod

REPLICA_SET = "rs0"
ROOT_USER = "root"

START_DEADLINE_SECONDS = 60.0
"""It takes half a second here; a minute is for two busy cores and a cold disk."""

PORT_ATTEMPTS = 3
"""A free port can be taken by another program before ``mongod`` binds it."""

OPLOG_MEGABYTES = 128
"""The default is 5 % of the disk and would eat the memory that the data lies in."""

LISTENING = '"id":23016'
"""The identity of the log message "Waiting for connections"."""

ADDRESS_IN_USE = 48
"""The exit code of a ``mongod`` that found its port taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The files of a server that accepts nothing but TLS, all PEM.

    Parameters
    ----------
    ca
        The authority that clients' certificates are checked by, where they have one.
    certificate_and_key
        The server's own.
    client
        The administrator's client certificate and key. Given one, the server refuses every client
        without a certificate.
    """

    ca: Path
    certificate_and_key: Path
    client: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MongoConfig:
    """How a server is to run.

    Parameters
    ----------
    auth
        Whether clients must log in. A root user with a random password is created.
    tls
        Accept TLS only, with these files; the certificate must name the advertised host.
    port
        The port, or None for a free one.
    bind
        Addresses to listen on besides 127.0.0.1, for example a bridge's, so that pods reach it.
    advertise
        The host that clients are told to use; 127.0.0.1 unless given. Pods need one they reach.
    parameters
        Server parameters, such as ``ttlMonitorSleepSecs``.
    member_key
        What the members of one replica set know each other by. Given one, the server is none of its
        own and has no users: whoever starts the members makes the set.
    root
        The directory to make the data's own directory in; by default where there is room.
    label
        A part of the directory's name, by which the directory can be found.
    die_with_parent
        Let the kernel end the server when the *thread* that started it ends. For tests, whose
        process may be killed; not for a server that has to outlive a command.
    """

    auth: bool = False
    tls: TlsFiles | None = None
    port: int | None = None
    bind: tuple[str, ...] = ()
    advertise: str = "127.0.0.1"
    parameters: Mapping[str, str] = field(default_factory=dict)
    member_key: bytes | None = field(default=None, repr=False)
    root: Path | None = None
    label: str = "test"
    die_with_parent: bool = False


class MongoServer:
    """One ``mongod``. Use it as a context manager, or call `start` and `stop`.

    Parameters
    ----------
    config
        How it is to run.
    report
        Told about slow steps (a download), one line each.
    """

    def __init__(self, config: MongoConfig, report: Report = lambda _: None) -> None:
        self._config = config
        self._report = report
        self._process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_hex(24) if config.auth else ""
        self.port = 0
        self.data = Path()

    @property
    def log(self) -> Path:
        """The server's own log, one JSON document a line."""
        return self.data / "mongod.log"

    @property
    def pid(self) -> int:
        """The process id of the running server, for example to freeze it with a signal."""
        return int((self.data / PID_FILE).read_text())

    @property
    def uri(self) -> str:
        """The URI, with the root user's password where there is one."""
        return self._uri(self._config.advertise, f"replicaSet={REPLICA_SET}", login=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server and return once it is a writable primary, or listens as a member.

        Raises
        ------
        DevclusterError
            If there is no ``mongod``, a given port is taken, or the server does not come up.
        """
        binary = find_mongod(self._report)
        root = self._config.root or data_root()
        remove_dead_data(root)
        prefix = f"{DATA_PREFIX}{self._config.label}-"
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.data = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
            try:
                self.port = self._config.port or _free_port(self._config.bind)
                self._launch(binary)
                self._await_listening()
                if self._config.member_key is None:
                    self._make_primary()
            except _PortTaken:
                self.stop()
                if self._config.port is not None:
                    raise DevclusterError(
                        f"Port {self._config.port} is taken, mongod cannot listen on it.",
                        "Stop what listens there, or give no port to get a free one.",
                    ) from None
                if attempt == PORT_ATTEMPTS:
                    raise DevclusterError(
                        f"{PORT_ATTEMPTS} ports in a row were taken before mongod could bind them.",
                        "Try again.",
                    ) from None
            except BaseException:
                self.stop()
                raise
            else:
                return

    def restart(self) -> None:
        """Start the server again over the files that it left when it ended.

        Raises
        ------
        DevclusterError
            If it does not come up, for example because its disk is still full.
        """
        self._kill()
        self.log.unlink(missing_ok=True)  # in which it said that it listens
        self._launch(find_mongod(self._report))
        self._await_listening()
        with self._directly(login=True) as client:
            self._await_primary(client)

    def stop(self) -> None:
        """Kill the server and remove all of its files; does nothing where there is none."""
        self._kill()
        end_server(self.data)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=STOP_DEADLINE_SECONDS)
        self._process = None

    def _launch(self, binary: Path) -> None:
        config = self._config
        command = [
            *(str(binary), "--dbpath", str(self.data), "--logpath", str(self.log)),
            *("--pidfilepath", str(self.data / PID_FILE)),
            *("--port", str(self.port), "--bind_ip", ",".join(("127.0.0.1", *config.bind))),
            *("--replSet", REPLICA_SET, "--oplogSize", str(OPLOG_MEGABYTES)),
            *("--wiredTigerCacheSizeGB", "0.25", "--nounixsocket"),
            *("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"),
        ]
        parameters = {"diagnosticDataCollectionEnabled": "false", **config.parameters}
        for name, value in parameters.items():
            command += ["--setParameter", f"{name}={value}"]
        if config.auth:
            key_file = self.data / "replica-set.key"
            if not key_file.exists():
                key = config.member_key or secrets.token_bytes(96)
                _write_private(key_file, base64.b64encode(key))
            command += ["--keyFile", str(key_file)]
        if config.tls is not None:
            command += ["--tlsMode", "requireTLS"]
            if config.tls.client is None:
                command += ["--tlsAllowConnectionsWithoutCertificates"]
            command += ["--tlsCAFile", str(config.tls.ca)]
            command += ["--tlsCertificateKeyFile", str(config.tls.certificate_and_key)]
        with alive_lock(self.data) as descriptor:
            if config.die_with_parent:
                self._launch_as_child(command, descriptor)
            else:
                self._launch_detached(command, descriptor)

    def _launch_as_child(self, command: list[str], descriptor: int) -> None:
        setpriv = shutil.which("setpriv")  # absent outside Linux; then the next start cleans up
        prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        with (self.data / "console.log").open("wb") as console:
            self._process = subprocess.Popen(
                [*prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=(descriptor,),
                start_new_session=True,  # an interrupt at the terminal is for the tests alone
            )

    def _launch_detached(self, command: list[str], descriptor: int) -> None:
        with (self.data / "console.log").open("wb") as console:
            outcome = subprocess.run(
                [*command, "--fork"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                pass_fds=(descriptor,),
                timeout=START_DEADLINE_SECONDS,
                check=False,
            )
        if outcome.returncode != 0:
            raise self._failure(outcome.returncode)

    def _await_listening(self) -> None:
        """Wait for the server's own word: on its port another program may answer."""
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while time.monotonic() < deadline:
            code = self._process.poll() if self._process is not None else None
            if code is not None:
                raise self._failure(code)
            if self.log.exists() and LISTENING in self.log.read_text(errors="replace"):
                return
            time.sleep(0.01)
        raise DevclusterError(
            f"mongod does not listen on port {self.port} after {START_DEADLINE_SECONDS:.0f} s.",
            f"It said last: {last_words(self.data)}",
        )

    def _make_primary(self) -> None:
        """Initiate the set and add the root user, through the localhost exception."""
        host = f"{self._config.advertise}:{self.port}"
        members = [{"_id": 0, "host": host}]
        with self._directly(login=False) as client:
            try:
                client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": members})
                self._await_primary(client)
                if self._config.auth:
                    client.admin.command(
                        "createUser",
                        ROOT_USER,
                        pwd=self._password,
                        roles=["root"],
                        mechanisms=["SCRAM-SHA-256"],
                    )
            except PyMongoError as error:
                raise DevclusterError(
                    f"The replica set could not be set up: {type(error).__name__}",
                    f"mongod said last: {last_words(self.data)}",
                ) from error

    def _directly(self, *, login: bool) -> MongoClient[dict[str, Any]]:
        return MongoClient(
            self._uri("127.0.0.1", "directConnection=true", login=login),
            serverSelectionTimeoutMS=int(START_DEADLINE_SECONDS * 1000),
        )

    def _await_primary(self, client: MongoClient[dict[str, Any]]) -> None:
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while not client.admin.command("hello")["isWritablePrimary"]:
            if time.monotonic() > deadline:
                raise DevclusterError(
                    f"mongod did not become primary within {START_DEADLINE_SECONDS:.0f} s.",
                    f"It said last: {last_words(self.data)}",
                )
            time.sleep(0.01)

    def _failure(self, code: int) -> Exception:
        if code == ADDRESS_IN_USE or "already in use" in last_words(self.data):
            return _PortTaken()
        return DevclusterError(
            f"mongod ended with code {code}: {last_words(self.data)}",
            "Its options are in `devcluster.mongo`; its full message is shown when it is started"
            " by hand.",
        )

    def _uri(self, host: str, options: str, *, login: bool) -> str:
        user = f"{ROOT_USER}:{self._password}@" if self._password and login else ""
        if user:
            options += "&authSource=admin"
        if self._config.tls is not None:
            options += f"&tls=true&tlsCAFile={self._config.tls.ca}"
            if self._config.tls.client is not None:
                options += f"&tlsCertificateKeyFile={self._config.tls.client}"
        return f"mongodb://{user}{host}:{self.port}/?{options}"


class _PortTaken(Exception):
    """The port was taken by the time ``mongod`` wanted it."""


def _free_port(addresses: tuple[str, ...]) -> int:
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        port: int = first.getsockname()[1]
        for address in addresses:
            with socket.socket() as other:
                try:
                    other.bind((address, port))
                except OSError as error:
                    raise DevclusterError(
                        f"mongod cannot listen on {address}: {error.strerror}",
                        "Give an address of this machine.",
                    ) from None
    return port


def _write_private(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
