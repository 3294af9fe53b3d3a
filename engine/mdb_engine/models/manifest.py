"""An app's ``manifest.json``: what its image says of it, in snake_case.

It shares its parts with an MdbApp's spec and converts to it. What only the app itself needs (its
authorisation, CORS) has no place in the cluster's resource and stays here. A section that this
library would not act on is refused rather than ignored: it might be one that protects something.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from mdb_engine.constants import COLLECTION_PATTERN
from mdb_engine.exceptions import Fault, ManifestInvalid
from mdb_engine.models.base import Part, first_fault, misplaced, parse
from mdb_engine.models.collections import CollectionOptions
from mdb_engine.models.managed_index import ManagedIndex
from mdb_engine.models.spec import (
    MAX_COLLECTIONS,
    MAX_INDEXES,
    Collection,
    DataAccess,
    MdbAppSpec,
    Slug,
)

__all__ = [
    "Auth",
    "Cors",
    "Manifest",
    "ManifestCollection",
    "ManifestSource",
    "Policy",
    "read_json",
]

CollectionName = Annotated[str, Field(max_length=48, pattern=COLLECTION_PATTERN)]


class Policy(Part):
    """Who may call the app: settings of the authoriser in front of it."""

    provider: Literal["casbin", "custom"] = Field(
        default="casbin",
        description="The authoriser: casbin, embedded, or the app's own; see create_app.",
    )
    required: bool = Field(default=True, description="Whether a request needs a user.")
    allow_anonymous: bool = Field(default=False, description="Whether it may be without one.")
    authorization: dict[str, JsonValue] = Field(
        default_factory=dict, description="The authoriser's own settings."
    )

    @model_validator(mode="before")
    @classmethod
    def _has_no_provider_that_has_ended(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("provider") == "oso":
            raise misplaced(
                "the Oso library has been given up by its makers; write custom, and pass an "
                "authoriser that asks what you run: create_app(authorizer=...)",
                "provider",
            )
        return value


class Auth(Part):
    """How the app knows its users."""

    mode: Literal["app"] = Field(
        default="app", description="Sessions are the app's own; there are no shared ones."
    )
    policy: Policy | None = Field(default=None, description="Who may call the app.")

    @model_validator(mode="before")
    @classmethod
    def _has_nothing_that_is_not_acted_upon(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            if value.get("mode") == "shared":
                raise misplaced(
                    "sessions shared between apps do not exist here; leave it out, and each app "
                    "has its own",
                    "mode",
                )
            if "users" in value:
                raise misplaced(
                    "is not acted upon; leave it out, and keep the app's users in a collection of "
                    "its own",
                    "users",
                )
        return value


class Cors(Part):
    """Which origins may call the app from a browser."""

    enabled: bool = Field(default=False, description="Whether other origins are answered at all.")
    allow_origins: tuple[str, ...] = Field(default=(), description="The origins.")
    allow_credentials: bool = Field(default=False, description="Whether cookies may be sent.")
    allow_methods: tuple[str, ...] = Field(default=("GET",), description="The methods.")
    allow_headers: tuple[str, ...] = Field(default=(), description="The request's headers.")
    expose_headers: tuple[str, ...] = Field(default=(), description="The response's headers.")
    max_age: int = Field(default=600, ge=0, description="For how many seconds it is cached.")


class ManifestCollection(CollectionOptions):
    """What a collection is made with, beside its indexes."""

    validator: dict[str, JsonValue] | None = Field(
        default=None, min_length=1, description="What MongoDB refuses documents by: a query."
    )


class Manifest(Part):
    """A manifest, validated whole."""

    schema_version: Literal["1.0", "2.0"] = Field(
        default="2.0", description="The version of the schema; both are read the same way."
    )
    slug: Slug = Field(description="The app's identity in MongoDB.")
    name: str | None = Field(
        default=None, min_length=1, max_length=128, description="The app's name for people."
    )
    description: str | None = Field(
        default=None, max_length=1024, description="What the app is for."
    )
    status: Literal["active", "draft", "inactive", "archived"] = Field(
        default="active", description="Where the app is in its life; for people."
    )
    developer_id: str | None = Field(
        default=None, max_length=256, description="Whom to ask about the app."
    )
    data_access: DataAccess = Field(
        default_factory=DataAccess, description="Whose data it reads, and who may read its own."
    )
    managed_indexes: dict[
        CollectionName, Annotated[tuple[ManagedIndex, ...], Field(max_length=MAX_INDEXES)]
    ] = Field(
        default_factory=dict,
        max_length=MAX_COLLECTIONS,
        description="The app's collections by name, each with its indexes, which may be none.",
    )
    collections: dict[CollectionName, ManifestCollection] = Field(
        default_factory=dict,
        max_length=MAX_COLLECTIONS,
        description="What collections are made with, by name; each is declared by that as well.",
    )
    auth: Auth = Field(default_factory=Auth, description="How the app knows its users.")
    cors: Cors = Field(default_factory=Cors, description="Which origins may call the app.")

    @model_validator(mode="after")
    def _is_a_valid_spec(self) -> Self:
        for name, indexes in self.managed_indexes.items():
            try:
                _collection(name, indexes, None)
            except ValidationError as error:
                message, _ = first_fault(error)
                raise misplaced(message, "managed_indexes", name) from None
        try:
            self.to_spec()
        except ValidationError as error:
            message, path = first_fault(error)
            raise misplaced(message, *path) from None
        return self

    @classmethod
    def load(cls, source: Path | Mapping[str, Any]) -> Manifest:
        """Read a manifest from a file or from what was read from one.

        Raises
        ------
        ManifestInvalid
            If the file is missing or is no JSON, or with everything that is wrong in it.
        """
        data = read_json(source) if isinstance(source, Path) else source
        return parse(cls, data, camel=False)

    @classmethod
    def of(cls, slug: str, source: ManifestSource) -> Manifest:
        """Return the manifest of an app, read if it has to be.

        Raises
        ------
        ManifestInvalid
            If it is malformed, or another app's.
        """
        if isinstance(source, str):
            source = Path(source)
        manifest = source if isinstance(source, Manifest) else cls.load(source)
        if manifest.slug != slug:
            raise ManifestInvalid([Fault("slug", f"is {manifest.slug!r}, but the app is {slug!r}")])
        return manifest

    @classmethod
    def from_spec(cls, spec: MdbAppSpec) -> Manifest:
        """Return the manifest of a registered app, with what the resource knows of it."""
        return cls(
            slug=spec.slug,
            name=spec.display_name,
            description=spec.description,
            data_access=spec.data_access,
            managed_indexes={
                collection.name: (
                    *map(ManagedIndex.from_index, collection.indexes),
                    *map(ManagedIndex.from_search_index, collection.search_indexes),
                )
                for collection in spec.collections
            },
            collections={
                collection.name: options
                for collection in spec.collections
                if (options := _options(collection)) != ManifestCollection()
            },
        )

    def to_spec(self) -> MdbAppSpec:
        """Return the spec of an MdbApp that says the same."""
        return MdbAppSpec(
            slug=self.slug,
            display_name=self.name,
            description=self.description,
            data_access=self.data_access,
            collections=tuple(
                _collection(name, self.managed_indexes.get(name, ()), self.collections.get(name))
                for name in dict.fromkeys((*self.managed_indexes, *self.collections))
            ),
        )

    @property
    def read_scopes(self) -> tuple[str, ...]:
        """The slugs that the app wants to read, its own included."""
        return self.data_access.scopes_of(self.slug)

    @property
    def is_multi_site(self) -> bool:
        """Whether it wants to read other apps' data."""
        return len(self.read_scopes) > 1


ManifestSource = Manifest | Path | str | Mapping[str, Any]
"""A manifest, the path of its file, or what was read from one."""


def read_json(path: Path) -> Any:
    """Return what stands in a file of JSON; a key that stands twice is an error.

    Raises
    ------
    ManifestInvalid
        If the file is missing or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_twins)
    except OSError as error:
        raise ManifestInvalid([Fault("", f"{path}: {error.strerror}")]) from None
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid([Fault("", f"{path}: is not JSON: {error}")]) from None


def _collection(
    name: str, indexes: tuple[ManagedIndex, ...], options: ManifestCollection | None
) -> Collection:
    found = options or ManifestCollection()
    return Collection(
        name=name,
        indexes=tuple(index.to_index() for index in indexes if not index.is_search),
        search_indexes=tuple(one.to_search_index() for one in indexes if one.is_search),
        validator=None if found.validator is None else json.dumps(found.validator),
        **{part: getattr(found, part) for part in CollectionOptions.model_fields},
    )


def _options(collection: Collection) -> ManifestCollection:
    validator = collection.validator
    return ManifestCollection(
        validator=None if validator is None else json.loads(validator),
        **{part: getattr(collection, part) for part in CollectionOptions.model_fields},
    )


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found
