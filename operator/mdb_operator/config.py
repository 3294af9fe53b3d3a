"""The operator's settings, one field each, in the order of the chart's ``values.yaml``.

Every setting is an environment variable ``MDB_OPERATOR_<FIELD>`` and has a default that is right
for most, except where MongoDB is. A value that cannot work stops the start with a sentence that
names the variable; a secret is never part of that sentence.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers import KeyManagerUri
from mdb_engine.key_managers.choice import is_uri
from mdb_engine.models.mdbapp import DEFAULT_OPERATOR_CLASS, OPERATOR_CLASS_PATTERN
from mdb_operator.constants import LEASE_NAME
from mdb_operator.exceptions import ConfigurationInvalid

__all__ = ["ENV_PREFIX", "KEYRING_SECRET", "Config", "load_config"]

KEYRING_SECRET = "secret"  # noqa: S105 - a word
"""How the keyring's Secret is named among the key managers."""

ENV_PREFIX = "MDB_OPERATOR_"
"""What the name of every setting's environment variable starts with."""

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where kubelet tells a pod its namespace."""

_DNS_LABEL = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")


def _own_namespace() -> str:
    if NAMESPACE_FILE.is_file():
        return NAMESPACE_FILE.read_text(encoding="ascii").strip()
    return "default"


class Config(BaseSettings):
    """Everything that can be set."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    namespace: str = Field(
        default_factory=_own_namespace,
        title="Own namespace",
        description="Where the operator's Lease and master key Secret are. Default: the pod's own.",
    )
    pod_name: str = Field(
        default_factory=socket.gethostname,
        title="Pod name",
        description="Names this process in the Lease and in events. Default: the host's name.",
    )
    kubeconfig: Path | None = Field(
        default=None,
        title="Kubeconfig",
        description="A kubeconfig file, for running outside a pod. Default: the ServiceAccount.",
    )
    watch_namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        title="Watched namespaces",
        description="Namespaces, separated by commas, whose MdbApps are handled. Empty: all.",
    )
    exclude_namespaces: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        title="Excluded namespaces",
        description="Namespaces, separated by commas, whose MdbApps are left alone.",
    )
    installation: str | None = Field(
        default=None,
        max_length=63,
        pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        title="Installation",
        description=(
            "What the database knows this installation by; no two may have the same. Default: the "
            "UID of the operator's namespace, with the Lease's name."
        ),
    )
    operator_class: str = Field(
        default=DEFAULT_OPERATOR_CLASS,
        max_length=63,
        pattern=OPERATOR_CLASS_PATTERN,
        title="Class",
        description="The MdbApps that are handled, by their spec.operatorClass.",
    )
    mongodb_uri: SecretStr | None = Field(
        default=None,
        title="MongoDB URI",
        description="The operator's own connection string. Prefer MDB_OPERATOR_MONGODB_URI_FILE.",
    )
    mongodb_uri_file: Path | None = Field(
        default=None,
        title="MongoDB URI file",
        description="A mounted file with the operator's connection string.",
    )
    mongodb_database: str = Field(
        default="mdb",
        min_length=1,
        max_length=63,
        pattern=r"^[A-Za-z0-9_-]+$",
        title="Database",
        description="The database that the apps share.",
    )
    mongodb_apps_uri: SecretStr | None = Field(
        default=None,
        title="MongoDB URI of the apps",
        description=(
            "The connection string that apps are given, without credentials, where apps reach "
            "MongoDB by other names than the operator. Default: the operator's, without its user."
        ),
    )
    mongodb_tls_ca_file: Path | None = Field(
        default=None,
        title="Authorities",
        description=(
            "A PEM file with the authorities that MongoDB's certificate is checked by. Turns TLS "
            "on; apps are given it. Default: what the connection string says."
        ),
    )
    mongodb_tls_certificate_file: Path | None = Field(
        default=None,
        title="Client certificate",
        description="A PEM file with the operator's client certificate and key. Never handed on.",
    )
    mongodb_apps_certificate_file: Path | None = Field(
        default=None,
        title="Client certificate of the apps",
        description="A PEM file with the client certificate and key that all apps are given.",
    )
    mongodb_apps_issuer_dir: Path | None = Field(
        default=None,
        title="Authority of the apps' logins",
        description=(
            "A directory with `tls.crt` and `tls.key` of an authority that MongoDB trusts. Each "
            "app then logs in by a certificate of its own that this one signs (X.509), and not by "
            "password. Needs `isolation: database`."
        ),
    )
    mongodb_apps_certificate_seconds: int = Field(
        default=90 * 86400,
        ge=3600,
        le=10 * 366 * 86400,
        title="Life of an app's certificate",
        description="Seconds that such a certificate is valid; after two thirds it is renewed.",
    )
    isolation: Literal["database", "library"] = Field(
        default="database",
        title="Isolation",
        description=(
            "`database`: one MongoDB user and role per app. `library`: all apps share the "
            "operator's URI, and only the library keeps them apart."
        ),
    )
    master_key_secret: str = Field(
        default="mdb-operator-master-key",
        title="Master key Secret",
        description="The Secret in the operator's namespace that holds the keyring.",
    )
    master_key_uri: str = Field(
        default=KEYRING_SECRET,
        title="Key managers",
        description=(
            "What wraps the apps' data keys, instead of the keyring in the Secret: a URI "
            "(awskms://, azurekeyvault://, gcpkms://, transit://, or file:///DIRECTORY with the "
            "keyring's entries as files). Several, separated by commas: the first wraps, all "
            "unwrap; `secret` is the Secret. No credentials: those come from the environment."
        ),
    )
    master_key_dir: Path | None = Field(
        default=None,
        title="Master key directory",
        description=(
            "A directory with the keyring's entries as files: short for "
            "`file:///DIRECTORY` as the one key manager."
        ),
    )
    master_key_reload_seconds: float = Field(
        default=5.0,
        ge=0.1,
        le=3600,
        title="Master key reload",
        description="Seconds between two looks at the keyring.",
    )
    secret_watch: bool = Field(
        default=True,
        title="Secret watch",
        description=(
            "Watch the labels of projected Secrets, so that a change is repaired within 2 s. "
            "False needs no right to list Secrets and finds changes by polling."
        ),
    )
    secret_poll_seconds: float = Field(
        default=60.0,
        ge=0.1,
        le=86400,
        title="Secret poll",
        description="Seconds in which each projected Secret is looked at once, without the watch.",
    )
    resync_seconds: float = Field(
        default=600.0,
        ge=1,
        le=86400,
        title="Resync",
        description=(
            "Seconds after which is looked, although nothing happened, if anything differs: by "
            "one command an app, and in full once a day."
        ),
    )
    relist_seconds: float = Field(
        default=300.0,
        ge=1,
        le=86400,
        title="Relist",
        description=(
            "Seconds between two lists of all MdbApps, which find deletions that the watch lost, "
            "and a watch that hangs."
        ),
    )
    watch_limit_seconds: float = Field(
        default=120.0,
        ge=1,
        title="Watch limit",
        description="Seconds that the watch may be behind such a list before /healthz says so.",
    )
    concurrency: int = Field(
        default=8,
        ge=1,
        le=256,
        title="Concurrency",
        description="How many apps are reconciled at once.",
    )
    app_metrics: bool = Field(
        default=True,
        title="Metrics of apps",
        description=(
            "Show metrics of each app: three series where all is well, one more for each condition "
            "that is not true. Those of all apps together are always shown."
        ),
    )
    adopt_collections: bool = Field(
        default=False,
        title="Adoption",
        description=(
            "Let an MdbApp make a collection of the database its own that is no app's "
            "(spec.collections[].adopt). Whoever may create an MdbApp can then take any of them."
        ),
    )
    leader_election: bool = Field(
        default=True,
        title="Leader election",
        description="Contend for the Lease. Only a single process under your eyes may go without.",
    )
    lease_name: str = Field(
        default=LEASE_NAME,
        title="Lease",
        description="The Lease that the replicas of one installation share.",
    )
    lease_seconds: float = Field(
        default=10.0,
        ge=1,
        le=300,
        title="Lease duration",
        description="Seconds after which a silent leader is replaced; whole in the API.",
    )
    lease_renew_deadline_seconds: float = Field(
        default=6.0,
        gt=0,
        title="Renew deadline",
        description="Seconds for which the leader tries to renew; then its process ends.",
    )
    lease_retry_seconds: float = Field(
        default=2.0,
        gt=0,
        title="Retry",
        description="Seconds between two attempts to take or renew the Lease.",
    )
    http_host: str = Field(
        default="",
        title="HTTP host",
        description="The address to serve on. Default: all, IPv4 and IPv6.",
    )
    http_port: int = Field(
        default=8080,
        ge=0,
        le=65535,
        title="HTTP port",
        description="The one port of /healthz, /readyz and /metrics; 0 takes any free one.",
    )
    http_tls_certificate_file: Path | None = Field(
        default=None,
        title="HTTP certificate",
        description=(
            "A PEM file with the certificate chain that the port is served with, which then speaks "
            "TLS only. A changed file is taken up at once."
        ),
    )
    http_tls_key_file: Path | None = Field(
        default=None,
        title="HTTP key",
        description="A PEM file with the private key of that certificate.",
    )
    metrics_token_file: Path | None = Field(
        default=None,
        title="Metrics token",
        description=(
            "A file with the token that a request for /metrics has to bear. Default: none."
        ),
    )
    heartbeat_limit_seconds: float = Field(
        default=30.0,
        ge=1,
        title="Heartbeat limit",
        description="Seconds that the main loop may be blocked before /healthz says so.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        title="Log level",
        description="The least level that is logged.",
    )

    @field_validator("watch_namespaces", "exclude_namespaces", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        return value

    @field_validator("watch_namespaces", "exclude_namespaces")
    @classmethod
    def _check_namespaces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _DNS_LABEL.match(name):
                raise ValueError("is not a list of namespace names separated by commas")
        return value

    @field_validator("mongodb_uri", "mongodb_apps_uri")
    @classmethod
    def _check_uri(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            _require_mongodb(value.get_secret_value())
        return value

    @field_validator("mongodb_apps_uri")
    @classmethod
    def _check_apps_uri(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and "@" in urlsplit(value.get_secret_value()).netloc:
            raise ValueError("must not hold a user: each app gets its own")
        return value

    @field_validator("master_key_uri")
    @classmethod
    def _check_key_managers(cls, value: str) -> str:
        for entry in filter(lambda one: one != KEYRING_SECRET, _entries(value)):
            if not is_uri(entry):
                raise ValueError("holds what is neither a URI nor `secret`; no key belongs here")
            try:
                KeyManagerUri.parse(entry)
            except MasterKeyError as error:
                raise ValueError(error.message) from None
        return value

    @property
    def key_managers(self) -> list[str]:
        """What wraps and unwraps the apps' data keys: URIs or `KEYRING_SECRET`; the first wraps."""
        if self.master_key_dir is not None:
            return [self.master_key_dir.absolute().as_uri()]
        return _entries(self.master_key_uri)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.mongodb_uri is None) == (self.mongodb_uri_file is None):
            raise ValueError(f"set {ENV_PREFIX}MONGODB_URI_FILE or {ENV_PREFIX}MONGODB_URI")
        if self.mongodb_apps_issuer_dir is not None:
            self._check_apps_issuer()
        if self.master_key_dir is not None and self.master_key_uri != KEYRING_SECRET:
            raise ValueError(
                f"set {ENV_PREFIX}MASTER_KEY_URI or {ENV_PREFIX}MASTER_KEY_DIR, not both"
            )
        if self.watch_namespaces and self.exclude_namespaces:
            raise ValueError(
                f"set {ENV_PREFIX}WATCH_NAMESPACES or {ENV_PREFIX}EXCLUDE_NAMESPACES, not both"
            )
        if (self.http_tls_certificate_file is None) != (self.http_tls_key_file is None):
            raise ValueError(
                f"{ENV_PREFIX}HTTP_TLS_CERTIFICATE_FILE needs {ENV_PREFIX}HTTP_TLS_KEY_FILE"
                " and the other way round"
            )
        if not self.lease_retry_seconds < self.lease_renew_deadline_seconds < self.lease_seconds:
            raise ValueError(
                f"{ENV_PREFIX}LEASE_RETRY_SECONDS < {ENV_PREFIX}LEASE_RENEW_DEADLINE_SECONDS < "
                f"{ENV_PREFIX}LEASE_SECONDS must hold, or two replicas could lead at once"
            )
        return self

    def _check_apps_issuer(self) -> None:
        name = f"{ENV_PREFIX}MONGODB_APPS_ISSUER_DIR"
        if self.isolation != "database":
            raise ValueError(
                f"{name} needs {ENV_PREFIX}ISOLATION=database: it is about apps' users"
            )
        if self.mongodb_apps_certificate_file is not None:
            raise ValueError(
                f"set {name} or {ENV_PREFIX}MONGODB_APPS_CERTIFICATE_FILE, not both: a client has"
                " one certificate"
            )

    def handles_namespace(self, namespace: str) -> bool:
        """Whether MdbApps of a namespace are this operator's to look at."""
        if self.watch_namespaces:
            return namespace in self.watch_namespaces
        return namespace not in self.exclude_namespaces

    def read_mongodb_uri(self) -> SecretStr:
        """Return the operator's connection string, from the file as it is now where one is set.

        Raises
        ------
        ConfigurationInvalid
            If the file cannot be read or holds no MongoDB URI.
        """
        if self.mongodb_uri is not None:
            return self.mongodb_uri
        path = self.mongodb_uri_file
        try:
            uri = path.read_text(encoding="utf-8").strip() if path is not None else ""
            _require_mongodb(uri)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigurationInvalid(
                f"{ENV_PREFIX}MONGODB_URI_FILE: {path}: {reason}. "
                "Put the connection string of the operator's MongoDB user there."
            ) from None
        return SecretStr(uri)


def _entries(text: str) -> list[str]:
    return [entry.strip() for entry in text.split(",")]


def _require_mongodb(uri: str) -> None:
    if not uri.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("must start with mongodb:// or mongodb+srv://")


def load_config(**overrides: Any) -> Config:
    """Read the settings from the environment; overrides win over it, by the names of the fields.

    Raises
    ------
    ConfigurationInvalid
        With every fault, each by the name of its environment variable.
    """
    try:
        return Config(**overrides)
    except ValidationError as error:
        faults = []
        for one in error.errors(include_url=False, include_input=False, include_context=False):
            name = f"{ENV_PREFIX}{'_'.join(str(p) for p in one['loc'][:1]).upper()}: "
            faults.append((name if one["loc"] else "") + one["msg"].removeprefix("Value error, "))
        raise ConfigurationInvalid("; ".join(faults)) from None
