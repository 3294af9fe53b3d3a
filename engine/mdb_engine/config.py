"""The library's settings, each with its environment variable.

A binding that the operator has mounted comes before all of these, and an argument of
`MongoDBEngine` before its variable.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from mdb_engine.constants import GRANT_MAX_AGE_SECONDS, GRANT_TTL_SECONDS

__all__ = ["EngineSettings", "secret_variable"]


class EngineSettings(BaseSettings):
    """What can be set from outside.  Its repr hides what is secret."""

    model_config = SettingsConfigDict(
        frozen=True, populate_by_name=True, extra="ignore", hide_input_in_errors=True
    )

    mongo_uri: SecretStr | None = Field(
        default=None,
        validation_alias="MONGODB_URI",
        title="MongoDB URI",
        description="Where MongoDB is, without Kubernetes; in a pod the binding says it.",
    )
    db_name: str | None = Field(
        default=None,
        validation_alias="MONGODB_DB",
        title="Database",
        description="The database that the apps share, without Kubernetes.",
    )
    master_key: SecretStr | None = Field(
        default=None,
        validation_alias="MDB_ENGINE_MASTER_KEY",
        title="Master key",
        description=(
            "Wraps the apps' secrets, without Kubernetes: keys in base64, or the URI of a key "
            "manager, or several. In a pod it is never looked for."
        ),
    )
    binding_root: Path | None = Field(
        default=None,
        validation_alias="SERVICE_BINDING_ROOT",
        title="Binding root",
        description="The directory below which bindings are mounted, one directory each.",
    )
    driver: Literal["motor", "pymongo"] = Field(
        default="pymongo",
        validation_alias="MDB_DRIVER",
        title="Driver",
        description="The MongoDB driver: PyMongo's own async client, or motor (an extra).",
    )
    grant_ttl: float = Field(
        default=GRANT_TTL_SECONDS,
        gt=0,
        le=60,
        validation_alias="MDB_GRANT_TTL_SECONDS",
        title="Grant TTL",
        description="Seconds within which a revocation, a rotation or a new grant takes hold.",
    )
    grant_max_age: float = Field(
        default=GRANT_MAX_AGE_SECONDS,
        gt=0,
        le=300,
        validation_alias="MDB_GRANT_MAX_AGE_SECONDS",
        title="Grant max age",
        description="Seconds for which grants that cannot be refreshed are trusted.",
    )
    startup_deadline: float = Field(
        default=20.0,
        ge=0,
        le=300,
        validation_alias="MDB_STARTUP_DEADLINE_SECONDS",
        title="Startup deadline",
        description=(
            "Seconds that an app in a pod waits to be registered before it starts all the same; "
            "/ready then says what is missing."
        ),
    )
    binding_poll: float = Field(
        default=1.0,
        gt=0,
        le=30,
        validation_alias="MDB_BINDING_POLL_SECONDS",
        title="Binding poll",
        description="Seconds between two looks at whether the mounted binding has changed.",
    )
    audit_queue_size: int = Field(
        default=1_000,
        ge=1,
        le=100_000,
        validation_alias="MDB_AUDIT_QUEUE_SIZE",
        title="Audit queue",
        description=(
            "Different audit events that may wait to be written before some are dropped; each "
            "kind has an equal share."
        ),
    )
    session_lifetime: int = Field(
        default=8 * 3600,
        ge=60,
        le=30 * 24 * 3600,
        validation_alias="MDB_SESSION_LIFETIME_SECONDS",
        title="Session lifetime",
        description="Seconds for which a session is valid.",
    )
    session_cookie_secure: bool = Field(
        default=True,
        validation_alias="MDB_SESSION_COOKIE_SECURE",
        title="Secure cookies",
        description="Whether browsers send the session cookie over HTTPS (and localhost) only.",
    )
    instance: str = Field(
        default="",
        validation_alias="HOSTNAME",
        title="Instance",
        description="What the audit trail calls this process; in a pod, the pod's name.",
    )

    @classmethod
    def from_environment(cls) -> EngineSettings:
        """Read them from the environment."""
        return cls()


COMMON: Final = re.compile(
    r"(API|APP|AUTH|AUTH0|AWS|AZURE|CLIENT|COOKIE|CSRF|GITHUB|GOOGLE|JWT|NEXTAUTH|OAUTH2?|OIDC"
    r"|SESSION|STRIPE|TOKEN|WEBHOOK)(_CLIENT|_WEBHOOK)?"
)
"""Apps whose ``<SLUG>_SECRET`` is the usual name of another secret, which would be taken for the
app's and so be presented to the database.
"""


def secret_variable(slug: str) -> str:
    """Return the name of the environment variable that holds an app's secret."""
    name = re.sub(r"[^A-Z0-9]", "_", slug.upper())
    return f"MDB_{name}_SECRET" if COMMON.fullmatch(name) else f"{name}_SECRET"


def secret_from_environment(slug: str) -> SecretStr | None:
    """Return an app's secret from the environment, or None if it is not set or empty."""
    value = os.environ.get(secret_variable(slug), "").strip()
    return SecretStr(value) if value else None
