"""An MdbApp as it was last seen."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mdb_engine.models.mdbapp import DEFAULT_OPERATOR_CLASS
from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import FINALIZER, GROUP
from mdb_operator.kubernetes.resources import AppKey

__all__ = ["MdbAppResource"]


@dataclass(frozen=True, slots=True)
class MdbAppResource:
    """One MdbApp, with its body unparsed beyond what every reconcile needs."""

    key: AppKey
    uid: str  # one that is deleted and created again under its name is another
    generation: int  # grows with every change of the spec
    resource_version: str  # of what was read: a write must not act on something older
    deleting: bool  # a deletion was asked for and the finalizers hold it
    finalizers: tuple[str, ...]
    # Ours. Those of others mean nothing here, and may have 256 KiB in each app.
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    status: Mapping[str, Any]

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> MdbAppResource:
        """Read an object as the API server returned it."""
        metadata = body["metadata"]
        return cls(
            key=AppKey(metadata["namespace"], metadata["name"]),
            uid=metadata["uid"],
            generation=int(metadata.get("generation", 0)),
            resource_version=metadata.get("resourceVersion", ""),
            deleting=bool(metadata.get("deletionTimestamp")),
            finalizers=tuple(metadata.get("finalizers") or ()),
            annotations={
                name: value
                for name, value in (metadata.get("annotations") or {}).items()
                if name.startswith(f"{GROUP}/")
            },
            spec=_shared(body.get("spec") or {}),
            status=_shared(body.get("status") or {}),
        )

    @property
    def owner(self) -> Owner:
        """Whom the registry and the stores of Kubernetes objects know it as."""
        return Owner(self.key.namespace, self.key.name, self.uid)

    @property
    def slug(self) -> str:
        """The slug that the resource asks for; the API server has checked it."""
        return str(self.spec.get("slug", ""))

    @property
    def read_scopes(self) -> tuple[str, ...]:
        """The slugs that it wants to read; its own if none are named."""
        scopes = (self.spec.get("dataAccess") or {}).get("readScopes")
        return tuple(scopes) if scopes else (self.slug,)

    @property
    def secret_name(self) -> str:
        """The name of its projected Secret: ``spec.secret.name``, by default ``<name>-mdb``."""
        named = (self.spec.get("secret") or {}).get("name")
        return str(named or f"{self.key.name}-mdb")

    @property
    def operator_class(self) -> str:
        """The class of installations that are to handle it."""
        return str(self.spec.get("operatorClass") or DEFAULT_OPERATOR_CLASS)

    @property
    def installation(self) -> str | None:
        """The installation that has claimed it; None where none has."""
        return self.status.get("installation") or None

    @property
    def finalized(self) -> bool:
        """Whether our finalizer holds it."""
        return FINALIZER in self.finalizers

    @property
    def changed_since_its_status(self) -> bool:
        """Whether its status is of an earlier spec, or it has one and is to be deleted."""
        observed = self.status.get("observedGeneration")
        return observed is not None and (self.deleting or observed != self.generation)

    def asks_the_same_as(self, other: MdbAppResource) -> bool:
        """Whether nothing differs that a person may have changed."""
        return (
            self.uid == other.uid
            and self.generation == other.generation
            and self.deleting == other.deleting
            and self.annotations == other.annotations
            and self.spec == other.spec
        )

    def means_the_same_as(self, other: MdbAppResource) -> bool:
        """Whether nothing differs that a reconcile would look at."""
        return (
            self.asks_the_same_as(other)
            and self.finalizers == other.finalizers
            and self.status == other.status
        )


def _shared(value: Any) -> Any:
    """Return a copy whose texts are one object each in all apps: names of fields, messages, times.

    With texts of its own an app of the cache has 10 KiB, of which these are the half.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {sys.intern(name): _shared(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_shared(one) for one in value]
    return value
