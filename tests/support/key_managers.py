"""Key managers to test with, each of which can be cut off, refuse its client, and rotate its key.

AWS KMS is moto's server, Transit is OpenBao itself. Google's and Azure's are servers of this module
that speak the documented REST of the service to its own client library, with real cryptography; the
services themselves were never asked.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import ssl
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import hvac
import jwt
import pytest
import requests
from azure.core.credentials import AccessToken
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from moto.server import ThreadedMotoServer

from devcluster.node.addresses import free_port
from mdb_engine.core.aead import decrypt, encrypt, generate_key
from mdb_engine.key_managers import KeyManagerUri, RemoteKeyManager
from mdb_engine.key_managers.azure import AzureKeyManager
from mdb_engine.key_managers.choice import open_remote
from support import leakscan
from support.certificates import Authority
from support.forwarder import Forwarder
from support.waiting import wait_until

KINDS = ("awskms", "azurekeyvault", "gcpkms", "transit")


class Service(ABC):
    """A key manager of one test, through a port that can be cut."""

    def __init__(self, port: int) -> None:
        self.forwarder = Forwarder(f"mongodb://127.0.0.1:{port}")

    @property
    @abstractmethod
    def uri(self) -> str:
        """The URI of its key, through the forwarder."""

    @abstractmethod
    def rotate(self) -> None:
        """Have another key, or another version of it, wrap from now on."""

    @abstractmethod
    def expire(self) -> None:
        """Refuse the client's credentials."""

    @abstractmethod
    def renew(self) -> None:
        """Give the client credentials that are good."""

    def manager(self) -> RemoteKeyManager:
        """Return a key manager as a process makes one that has just started."""
        return open_remote(KeyManagerUri.parse(self.uri))

    def cut(self) -> None:
        self.forwarder.cut()

    def mend(self) -> None:
        self.forwarder.mend()

    def close(self) -> None:
        self.forwarder.close()


class AwsKms(Service):
    """Moto's server; its accounts and keys are those of the test."""

    def __init__(self, environment: pytest.MonkeyPatch) -> None:
        self._environment = environment
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        port = self._server.get_host_and_port()[1]
        super().__init__(port)
        self._moto = f"http://127.0.0.1:{port}"
        requests.post(f"{self._moto}/moto-api/reset", timeout=5)  # what it knows is the process's
        environment.setenv("AWS_ENDPOINT_URL_KMS", f"http://127.0.0.1:{self.forwarder.port}")
        environment.setenv("AWS_CONFIG_FILE", "/nonexistent")
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        self._use("AKIAIOSFODNN7EXAMPLE", secrets.token_urlsafe(30))
        self._call("CreateAlias", AliasName="alias/mdb", TargetKeyId=self._create())

    @property
    def uri(self) -> str:
        return "awskms:///alias/mdb?region=eu-central-1"

    def rotate(self) -> None:
        self._call("UpdateAlias", AliasName="alias/mdb", TargetKeyId=self._create())

    def expire(self) -> None:
        requests.post(f"{self._moto}/moto-api/reset-auth", data="0", timeout=5)

    def renew(self) -> None:
        requests.post(f"{self._moto}/moto-api/reset-auth", data="1000000", timeout=5)

    def close(self) -> None:
        self.renew()
        super().close()
        self._server.stop()

    def _use(self, key: str, secret: str) -> None:
        leakscan.register(secret, "the secret of AWS")
        self._environment.setenv("AWS_ACCESS_KEY_ID", key)
        self._environment.setenv("AWS_SECRET_ACCESS_KEY", secret)

    def _create(self) -> str:
        return str(self._call("CreateKey")["KeyMetadata"]["KeyId"])

    def _call(self, name: str, **arguments: Any) -> Any:
        import boto3  # noqa: PLC0415 - takes its time, and only this needs it

        client = boto3.client("kms", region_name="eu-central-1", endpoint_url=self._moto)
        method = re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()
        return getattr(client, method)(**arguments)


class Transit(Service):
    """OpenBao's own server, in memory; the client logs in by AppRole."""

    def __init__(self, environment: pytest.MonkeyPatch, directory: Path) -> None:
        self._environment = environment
        port, root = free_port(), f"root-{secrets.token_urlsafe(20)}"
        leakscan.register(root, "OpenBao's root token")
        self._log = (directory / "openbao.log").open("wb")
        self._process = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("bao"), "server", "-dev", "-dev-no-store-token"),
                *(f"-dev-root-token-id={root}", f"-dev-listen-address=127.0.0.1:{port}"),
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={"HOME": str(directory), "PATH": "/usr/bin:/bin"},
        )
        self.admin = hvac.Client(url=f"http://127.0.0.1:{port}", token=root, timeout=5)
        wait_until(self._is_up, message="OpenBao")
        super().__init__(port)
        admin = self.admin
        admin.sys.enable_secrets_engine("transit")
        admin.secrets.transit.create_key("mdb")
        admin.sys.create_or_update_policy(
            "mdb",
            'path "transit/encrypt/mdb" { capabilities = ["update"] }\n'
            'path "transit/decrypt/mdb" { capabilities = ["update"] }',
        )
        admin.sys.enable_auth_method("approle")
        admin.auth.approle.create_or_update_approle("mdb", token_policies=["mdb"])
        environment.setenv(
            "VAULT_ROLE_ID", admin.auth.approle.read_role_id("mdb")["data"]["role_id"]
        )
        self._secret_id = ""
        self.renew()

    @property
    def uri(self) -> str:
        return f"transit://127.0.0.1:{self.forwarder.port}/transit/mdb?auth=approle&tls=false"

    def rotate(self) -> None:
        self.admin.secrets.transit.rotate_key("mdb")

    def expire(self) -> None:
        self.admin.auth.approle.destroy_secret_id("mdb", self._secret_id)
        for accessor in self.admin.list("auth/token/accessors")["data"]["keys"]:
            with contextlib.suppress(hvac.exceptions.VaultError):
                found = self.admin.auth.token.lookup_accessor(accessor)["data"]
                if found["path"] == "auth/approle/login":
                    self.admin.auth.token.revoke_accessor(accessor)

    def renew(self) -> None:
        made = self.admin.auth.approle.generate_secret_id("mdb")["data"]["secret_id"]
        leakscan.register(made, "the secret id of OpenBao")
        self._secret_id = made
        self._environment.setenv("VAULT_SECRET_ID", made)

    def token(self, ttl: str = "1h") -> str:
        """Return a token that may use the key."""
        made = self.admin.auth.token.create(policies=["mdb"], ttl=ttl)["auth"]["client_token"]
        leakscan.register(made, "a token of OpenBao")
        return str(made)

    def close(self) -> None:
        super().close()
        self._process.terminate()
        self._process.wait(10)
        self._log.close()

    def _is_up(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return bool(self.admin.sys.is_initialized() and not self.admin.sys.is_sealed())
        return False


class _Http(ThreadingHTTPServer):
    """An HTTP server of the suite."""

    daemon_threads = True
    request_queue_size = 64
    service: Any = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes) -> None:
        server = cast("_Http", self.server)
        status, answer, headers = server.service.answer(
            urlsplit(self.path).path, body, self.headers.get("Authorization", "")
        )
        text = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is inherited
        """Say nothing."""


_Answer = tuple[int, dict[str, Any], dict[str, str]]


class _Suite(Service):
    """A service that this module serves."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self._server = _Http(("127.0.0.1", 0), _Handler)
        self._server.service = self
        if context is not None:
            # The handshake is the handler's: in the listener it would hold up all others.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        super().__init__(self._server.server_address[1])
        self.renew()

    def expire(self) -> None:
        self.good = False
        self.token = ""

    def renew(self) -> None:
        self.good = True
        # Made here, and not when it is asked for: many ask at once, and each would make its own.
        self.token = secrets.token_urlsafe(30)
        leakscan.register(self.token, "an access token")

    def close(self) -> None:
        super().close()
        self._server.shutdown()
        self._server.server_close()

    @abstractmethod
    def answer(self, path: str, body: bytes, authorization: str) -> _Answer:
        """Answer a request: status, body, headers."""


class GcpKms(_Suite):
    """Cloud KMS's ``encrypt`` and ``decrypt``, for a service account.

    https://cloud.google.com/kms/docs/reference/rest/v1/projects.locations.keyRings.cryptoKeys
    """

    key = "projects/p/locations/global/keyRings/r/cryptoKeys/mdb"

    def __init__(self, environment: pytest.MonkeyPatch, directory: Path) -> None:
        super().__init__()
        self._versions = [generate_key()]
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._public = private.public_key()
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        leakscan.register(pem.splitlines()[5], "the key of the service account")
        account = {
            "type": "service_account",
            "client_email": "mdb@p.iam.gserviceaccount.com",
            "private_key": pem,
            "private_key_id": "1",
            "project_id": "p",
            "token_uri": f"{self._base}/token",
        }
        file = directory / "account.json"
        file.write_text(json.dumps(account))
        environment.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))

    @property
    def _base(self) -> str:
        return f"http://127.0.0.1:{self.forwarder.port}"

    @property
    def uri(self) -> str:
        return f"gcpkms://{self.key}?endpoint={self._base}"

    def rotate(self) -> None:
        self._versions.append(generate_key())

    def answer(self, path: str, body: bytes, authorization: str) -> _Answer:
        if not self._knows(authorization):
            return _google(401, "UNAUTHENTICATED")
        name, _, action = path.removeprefix("/v1/").rpartition(":")
        if name != self.key:
            return _google(404, "NOT_FOUND")
        asked = {
            one: base64.b64decode(text) for one, text in json.loads(body).items() if one != "name"
        }
        data = asked["additionalAuthenticatedData"]
        if action == "encrypt":
            number = len(self._versions)
            sealed = bytes([number]) + encrypt(self._versions[-1], asked["plaintext"], data)
            name = f"{self.key}/cryptoKeyVersions/{number}"
            return 200, {"name": name, "ciphertext": base64.b64encode(sealed).decode()}, {}
        try:
            sealed = asked["ciphertext"]
            opened = decrypt(self._versions[sealed[0] - 1], sealed[1:], data)
        except (InvalidTag, IndexError):
            return _google(400, "INVALID_ARGUMENT")
        return 200, {"plaintext": base64.b64encode(opened).decode()}, {}

    def _knows(self, authorization: str) -> bool:
        """Check the JWT that a service account signs for itself."""
        try:
            claims = jwt.decode(
                authorization.removeprefix("Bearer "),
                self._public,
                algorithms=["RS256"],
                options={"verify_aud": False},
            )
        except jwt.InvalidTokenError:
            return False
        return self.good and claims["sub"] == "mdb@p.iam.gserviceaccount.com"


def _google(code: int, status: str) -> _Answer:
    return code, {"error": {"code": code, "status": status, "message": "no"}}, {}


class AzureVault(_Suite):
    """A vault with an RSA key: ``get``, ``unwrapkey``, and the challenge that asks for a token.

    https://learn.microsoft.com/rest/api/keyvault/keys/operation-groups
    """

    def __init__(self, environment: pytest.MonkeyPatch, directory: Path) -> None:
        authority = Authority(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.issue("vault", ["localhost", "127.0.0.1"]))
        environment.setenv("REQUESTS_CA_BUNDLE", str(authority.certificate))
        super().__init__(context)
        self._versions: dict[str, rsa.RSAPrivateKey] = {}
        self.rotate()

    @property
    def uri(self) -> str:
        return f"azurekeyvault://localhost:{self.forwarder.port}/keys/mdb"

    def manager(self) -> RemoteKeyManager:
        # Entra ID is not served here: the credential is the test's own, and so is the audience.
        uri = KeyManagerUri.parse(self.uri)
        return AzureKeyManager(uri, self, verify_challenge_resource=False, retry_total=0)

    def rotate(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._versions[secrets.token_hex(16)] = key

    def get_token(self, *_: str, **__: Any) -> AccessToken:
        """Return a token, as a credential of azure-identity does."""
        token = self.token if self.good else "expired-token"
        return AccessToken(token, int(time.time()) + 3600)

    def answer(self, path: str, body: bytes, authorization: str) -> _Answer:
        if not self.token or authorization != f"Bearer {self.token}":
            challenge = (
                'Bearer authorization="https://login.microsoftonline.com/'
                '00000000-0000-0000-0000-000000000000", resource="https://vault.azure.net"'
            )
            return 401, {"error": {"code": "Unauthorized"}}, {"WWW-Authenticate": challenge}
        _, kind, name, *rest = path.split("/")
        version = (rest and rest[0]) or next(reversed(self._versions))
        if (kind, name) != ("keys", "mdb") or version not in self._versions:
            return 404, {"error": {"code": "KeyNotFound"}}, {}
        key = self._versions[version]
        kid = f"https://localhost:{self.forwarder.port}/keys/mdb/{version}"
        if rest[1:] == ["unwrapkey"]:
            asked = json.loads(body)
            oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
            try:
                opened = key.decrypt(_unbase64url(asked["value"]), oaep)
            except ValueError:
                return 400, {"error": {"code": "BadParameter"}}, {}
            return 200, {"kid": kid, "value": _base64url(opened)}, {}
        numbers = key.public_key().public_numbers()
        jwk = {
            "kid": kid,
            "kty": "RSA",
            "key_ops": ["wrapKey", "unwrapKey"],
            "n": _base64url(numbers.n.to_bytes(256, "big")),
            "e": _base64url(numbers.e.to_bytes(3, "big")),
        }
        return 200, {"key": jwk, "attributes": {"enabled": True}}, {}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@contextlib.contextmanager
def serve(kind: str, directory: Path) -> Iterator[Service]:
    """Serve a key manager, with the environment of its client set."""
    with pytest.MonkeyPatch.context() as environment:
        service: Service
        match kind:
            case "awskms":
                service = AwsKms(environment)
            case "azurekeyvault":
                service = AzureVault(environment, directory)
            case "gcpkms":
                service = GcpKms(environment, directory)
            case _:
                service = Transit(environment, directory)
        try:
            yield service
        finally:
            service.close()
