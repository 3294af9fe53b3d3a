"""The status of an MdbApp as a pydantic model: the CRD's schema is generated from it.

The operator builds the status as plain data (`apps.status`), because it compares what it would
write with what stands there; this model bounds and describes it, and a test validates one with the
other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from mdb_engine.constants import SLUG_PATTERN

__all__ = ["MdbAppStatus"]

DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
"""A name of a Kubernetes object, in the form that all kinds accept."""

Slug = Annotated[str, Field(pattern=SLUG_PATTERN, max_length=48)]


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class ConditionStatusModel(_Part):
    """One condition, as the conventions of the Kubernetes API have it."""

    type: str = Field(
        max_length=316,
        pattern=r"^[A-Za-z][A-Za-z0-9]*$",
        description="What the condition is about: Ready, Registered, GrantsResolved,"
        " SecretProjected, DatabaseUserReady, WorkloadsRestarted, CollectionsReady or Stalled.",
    )
    status: Literal["True", "False", "Unknown"] = Field(
        description="Whether it holds; Unknown where it could not be found out."
    )
    reason: str = Field(
        min_length=1,
        max_length=64,
        pattern=r"^[A-Z][A-Za-z]*$",
        description="Why, as one word: Provisioned, DatabaseUnavailable, SecretConflict,"
        " SlugTaken, CollectionTaken, IndexConflict, IndexBuilding,"
        " CollectionAdopting, GrantPending, NotGranted,"
        " KeyUnavailable, KubernetesUnavailable, Contended, RestartFailed, Suspended or Deleting.",
    )
    message: str = Field(
        max_length=1024,
        description="What is so, and what to do next where something is to be done.",
    )
    observed_generation: int = Field(
        ge=0, le=2**53, description="The generation of the resource that was looked at."
    )
    last_transition_time: datetime = Field(description="When the status last changed.")


class BindingStatus(_Part):
    """The Secret that a workload may mount (Service Binding: Provisioned Service)."""

    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=DNS_SUBDOMAIN,
        description="Name of the projected Secret in the namespace of this resource.",
    )


class SecretStatus(_Part):
    """Which version of the app's secret holds. Nothing from which it could be derived."""

    version: int = Field(ge=1, le=2**53, description="Version of the secret that is projected.")
    key_id: str = Field(
        max_length=256, description="Id of the master key under which it is encrypted."
    )
    rotated_at: datetime | None = Field(
        default=None, description="When this version of the secret was made."
    )
    previous_expires_at: datetime | None = Field(
        default=None,
        description="Until when the version before it is still accepted; absent when none is.",
    )
    certificate_expires_at: datetime | None = Field(
        default=None,
        description=(
            "When the certificate ends that the app logs in to MongoDB with. It is renewed after"
            " two thirds of its life; absent where the app has a password."
        ),
    )


class DeniedScopeStatus(_Part):
    """A scope that was asked for and does not hold."""

    slug: Slug = Field(description="The app whose data was asked for.")
    reason: Literal["GrantPending", "NotGranted"] = Field(
        description="GrantPending: no app has this slug yet. NotGranted: it has not consented."
    )


class MdbAppStatus(_Part):
    """What the operator last saw and did. Written by the operator alone."""

    observed_generation: int | None = Field(
        default=None,
        ge=-1,
        le=2**53,
        description="The generation that this status is about; -1 before the operator has seen it.",
    )
    installation: str | None = Field(
        default=None,
        min_length=1,
        max_length=320,
        description="Which installation of the operator handles this app: the first of its class to"
        " claim it. No other touches it as long as this is there.",
    )
    conditions: Annotated[list[ConditionStatusModel], Field(max_length=16)] | None = Field(
        default=None,
        description="What holds and why. `Ready` sums the others up.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
    )
    binding: BindingStatus | None = Field(
        default=None,
        description="The Secret to mount. Absent as long as there is none that is this app's.",
    )
    secret: SecretStatus | None = Field(
        default=None, description="The version of the app's secret and of its master key."
    )
    granted_scopes: Annotated[list[Slug], Field(max_length=64)] | None = Field(
        default=None,
        description="The slugs whose data the app may read at this moment, its own included.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    denied_scopes: Annotated[list[DeniedScopeStatus], Field(max_length=64)] | None = Field(
        default=None,
        description="The slugs that it asked for and may not read, each with the reason.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["slug"],
        },
    )
