"""The spec of an MdbApp: what an app is called, what it owns, and whom it trusts.

The CRD's schema is made from these models, so every description is what ``kubectl explain`` shows,
every list, string and number is bounded, and rules across fields stand twice: as CEL, which the API
server enforces, and as a validator, which holds where there is no API server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.config import JsonDict

from mdb_engine.constants import (
    COLLECTION_PATTERN,
    DEFAULT_OVERLAP_SECONDS,
    MIN_OVERLAP_SECONDS,
    SLUG_PATTERN,
)
from mdb_engine.models.base import Part, misplaced, parse
from mdb_engine.models.collections import Adoption, CollectionOptions, JsonObject, SearchIndex
from mdb_engine.models.indexes import Index
from mdb_engine.models.mdbapp import DEFAULT_OPERATOR_CLASS, OPERATOR_CLASS_PATTERN

__all__ = [
    "Collection",
    "DataAccess",
    "MdbAppSpec",
    "Reader",
    "RestartTarget",
    "SecretSettings",
    "Slug",
]

MAX_SCOPES = 64
MAX_COLLECTIONS = 64
MAX_INDEXES = 48
MAX_SEARCH_INDEXES = 8
MAX_READERS = 64
MAX_TARGETS = 16
MAX_PERIOD_SECONDS = 10 * 365 * 24 * 3600
MAX_OVERLAP_SECONDS = 7 * 24 * 3600

NAMESPACE_PATTERN = r"^(\*|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)$"
OBJECT_NAME_PATTERN = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"

Slug = Annotated[str, Field(min_length=1, max_length=48, pattern=SLUG_PATTERN)]

_READ_SCOPES = ("data_access", "read_scopes")
_WRITE_SCOPE = ("data_access", "write_scope")

CrossAppPolicy = Literal["Explicit", "DenyAll"]
_POLICY_SPELLINGS = {"explicit": "Explicit", "deny_all": "DenyAll"}


def _rule(rule: str, message: str) -> JsonDict:
    return {"rule": rule, "message": message}


class Reader(Part):
    """An app, or all apps of a namespace, that may read this app's data if they ask for it."""

    namespace: str = Field(
        max_length=63,
        pattern=NAMESPACE_PATTERN,
        description="The namespace whose apps may read this app's data; * means every namespace.",
    )
    slug: Slug | None = Field(
        default=None,
        description="The slug of the one app there that may; absent means every app of it.",
    )


class DataAccess(Part):
    """Whose data the app reads, and who may read its own."""

    read_scopes: tuple[Slug, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_SCOPES,
        description=(
            "Slugs of the apps whose data this app reads, its own included; by default only its "
            "own. Another app's data is granted only where that app consents: by living in the "
            "same namespace, or by its own dataAccess.readers."
        ),
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    write_scope: Slug | None = Field(
        default=None,
        description="The slug under which the app writes: its own, which is also the default.",
    )
    cross_app_policy: CrossAppPolicy = Field(
        default="Explicit",
        description=(
            "Explicit: data crosses between apps where the reader names the owner and the owner "
            "consents. DenyAll: this app neither reads other apps' data nor is read by them."
        ),
    )
    readers: tuple[Reader, ...] = Field(
        default=(),
        max_length=MAX_READERS,
        description=(
            "Who else may name this app in their readScopes, besides the apps of its own namespace."
        ),
    )

    @field_validator("cross_app_policy", mode="before")
    @classmethod
    def _accept_manifest_spelling(cls, value: Any) -> Any:
        return _POLICY_SPELLINGS.get(value, value) if isinstance(value, str) else value

    @field_validator("read_scopes")
    @classmethod
    def _refuse_repeated_scopes(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value and len(set(value)) != len(value):
            raise ValueError("names a slug twice")
        return value

    def scopes_of(self, slug: str) -> tuple[str, ...]:
        """Return the slugs that the app wants to read, with the default filled in."""
        return self.read_scopes or (slug,)


class Collection(CollectionOptions):
    """One collection of the app."""

    name: str = Field(
        min_length=1,
        max_length=48,
        pattern=COLLECTION_PATTERN,
        description="The collection's name in the app's code; in MongoDB it is <slug>_<name>.",
    )
    indexes: tuple[Index, ...] = Field(
        default=(),
        max_length=MAX_INDEXES,
        description=(
            "Indexes of the collection. One that is changed here is changed in place or built "
            "beside the former, which is dropped afterwards; one that is removed here is dropped. "
            "Indexes that were not made from this list are left alone."
        ),
    )

    validator: JsonObject | None = Field(
        default=None,
        description=(
            'What MongoDB refuses documents by, as JSON: a query, such as {"$jsonSchema": ...}. '
            "It stands beside the one that holds app_id; documents that are there stay."
        ),
    )
    search_indexes: tuple[SearchIndex, ...] = Field(
        default=(),
        max_length=MAX_SEARCH_INDEXES,
        description="Indexes for $search and $vectorSearch, where the server has them.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    adopt: Adoption | None = Field(
        default=None,
        description="A collection that was there before and becomes this one, with its documents.",
    )

    @model_validator(mode="after")
    def _refuse_repeated_search_indexes(self) -> Self:
        names = [index.name for index in self.search_indexes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise misplaced(f"has {', '.join(twice)} twice", "search_indexes")
        return self

    @model_validator(mode="after")
    def _refuse_repeated_indexes(self) -> Self:
        names = [index.effective_name for index in self.indexes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise misplaced(f"has two indexes named {', '.join(twice)}", "indexes")
        if sum(index.is_text for index in self.indexes) > 1:
            raise misplaced("has two text indexes; MongoDB allows one", "indexes")
        return self


class SecretSettings(Part):
    """The Kubernetes Secret that the app's pods mount, and when its values change."""

    name: str | None = Field(
        default=None,
        max_length=253,
        pattern=OBJECT_NAME_PATTERN,
        description="The name of the Secret; by default the name of this MdbApp followed by -mdb.",
    )
    rotation_period_seconds: int = Field(
        default=0,
        ge=0,
        le=MAX_PERIOD_SECONDS,
        strict=True,
        description="Rotate when the current secret is this many seconds old; 0 only on request.",
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule("self == 0 || self >= 600", "must be 0 or at least 600 seconds")
            ]
        },
    )
    overlap_seconds: int = Field(
        default=DEFAULT_OVERLAP_SECONDS,
        ge=MIN_OVERLAP_SECONDS,
        le=MAX_OVERLAP_SECONDS,
        strict=True,
        description=(
            "For how many seconds a previous secret still works after a rotation. A mounted Secret "
            "takes up to a minute and a half to change inside a pod."
        ),
    )

    @field_validator("rotation_period_seconds")
    @classmethod
    def _refuse_hasty_rotation(cls, value: int) -> int:
        if value and value < DEFAULT_OVERLAP_SECONDS:
            raise ValueError(f"must be 0 or at least {DEFAULT_OVERLAP_SECONDS} seconds")
        return value


class RestartTarget(Part):
    """A workload to restart when the secret's version changes."""

    kind: Literal["Deployment", "StatefulSet", "DaemonSet"] = Field(
        description="The kind of the workload: Deployment, StatefulSet or DaemonSet.",
    )
    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=OBJECT_NAME_PATTERN,
        description="The name of the workload, in the namespace of this MdbApp.",
    )


class MdbAppSpec(Part):
    """An app that shares the MongoDB database: its identity, its data and whom it trusts."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                _rule("self.slug == oldSelf.slug", "slug is immutable"),
                _rule(
                    "!has(self.dataAccess) || !has(self.dataAccess.readScopes) || "
                    "self.slug in self.dataAccess.readScopes",
                    "dataAccess.readScopes must hold the app's own slug",
                ),
                _rule(
                    "!has(self.dataAccess) || !has(self.dataAccess.writeScope) || "
                    "self.dataAccess.writeScope == self.slug",
                    "dataAccess.writeScope must be the app's own slug",
                ),
            ]
        }
    )

    slug: Slug = Field(
        description=(
            "The app's identity in MongoDB and the prefix of its collections. Unique in the "
            "database, where - and _ count as one character; it cannot be changed later."
        ),
    )
    display_name: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="The app's name for people; by default its slug.",
    )
    description: str | None = Field(
        default=None,
        max_length=1024,
        description="What the app is for, in a sentence or two.",
    )
    data_access: DataAccess = Field(
        default_factory=DataAccess,
        description="Whose data the app reads, and who may read its own.",
    )
    collections: tuple[Collection, ...] = Field(
        default=(),
        max_length=MAX_COLLECTIONS,
        description=(
            "The app's collections. They are created with their indexes; data that is there "
            "already is kept, and a collection removed from this list keeps its data, and its "
            "name, until the app is deleted."
        ),
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
    )
    secret: SecretSettings = Field(
        default_factory=SecretSettings,
        description="The Kubernetes Secret that the app's pods mount, and when its values change.",
    )
    restart: tuple[RestartTarget, ...] = Field(
        default=(),
        max_length=MAX_TARGETS,
        description=(
            "Workloads of the same namespace to restart when the secret's version changes. Apps "
            "that read the mounted Secret through the library need none."
        ),
    )
    deletion_policy: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description=(
            "What becomes of the app's data when this MdbApp is deleted. Retain keeps it, and the "
            "slug, for this namespace; Delete drops its collections. The secret and all access end "
            "either way."
        ),
    )
    operator_class: str = Field(
        default=DEFAULT_OPERATOR_CLASS,
        max_length=63,
        pattern=OPERATOR_CLASS_PATTERN,
        description=(
            "The class of the operator's installations that handle this app. Changing it hands the "
            "app over: the former installation ends all access and keeps the data in its database, "
            "and one of the new class registers the app anew in its own."
        ),
    )
    suspend: bool = Field(
        default=False,
        strict=True,
        description=(
            "While true, the operator writes nothing for this app but its status: no repair, no "
            "rotation. Deletion still works."
        ),
    )

    @model_validator(mode="after")
    def _hold_the_scopes_together(self) -> Self:
        access = self.data_access
        if self.slug not in access.scopes_of(self.slug):
            raise misplaced(f"must hold the app's own slug {self.slug!r}", *_READ_SCOPES)
        if access.write_scope not in (None, self.slug):
            raise misplaced(f"must be the app's own slug {self.slug!r}", *_WRITE_SCOPE)
        names = [collection.name for collection in self.collections]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise misplaced(f"has {', '.join(twice)} twice", "collections")
        return self

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> MdbAppSpec:
        """Read the spec of an MdbApp, in the API's camelCase.

        Raises
        ------
        ManifestInvalid
            With everything that is wrong; unknown keys are named with the nearest right one.
        """
        return parse(cls, data, camel=True)

    @classmethod
    def parse_stored(cls, data: Mapping[str, Any]) -> MdbAppSpec:
        """Read a spec that was accepted when it was stored, by this version or a later one.

        What a later version added is left out. One app that uses such a field must not keep all
        others from being read after a rollback.

        Raises
        ------
        ManifestInvalid
            With everything else that is wrong.
        """
        return parse(cls, data, camel=True, extra="ignore")

    def normalised(self) -> MdbAppSpec:
        """Return the spec with the scopes written out that default to the slug."""
        access = self.data_access.model_copy(
            update={"read_scopes": self.read_scopes, "write_scope": self.slug}
        )
        return self.model_copy(update={"data_access": access})

    def dump(self) -> dict[str, Any]:
        """Return the spec as the API spells it, without what is only a default."""
        dumped = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return {"slug": self.slug, **dumped}

    @property
    def read_scopes(self) -> tuple[str, ...]:
        """The slugs that the app wants to read, its own included."""
        return self.data_access.scopes_of(self.slug)

    @property
    def denies_all(self) -> bool:
        """Whether no data crosses between this app and others."""
        return self.data_access.cross_app_policy == "DenyAll"

    @property
    def collection_names(self) -> tuple[str, ...]:
        """The logical names of its collections, in the order of the spec."""
        return tuple(collection.name for collection in self.collections)
