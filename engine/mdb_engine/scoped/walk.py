"""The walk through a pipeline: each stage is looked up, and handed to whoever knows its kind.

A pipeline that reads a collection begins with the scope; one that is fed by another stage
(``$facet``) needs none, because what feeds it was in scope.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mdb_engine.access.model import Access, Target
from mdb_engine.scoped.filters import narrow
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.operators import known
from mdb_engine.scoped.operators_stage import FIRST_ONLY, STAGES
from mdb_engine.scoped.refusals import refused, resolving, shown

__all__ = ["Handler", "Spot", "Stage", "StageCount", "Walk", "stage_parts"]

Stage = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a stage stands.

    Parameters
    ----------
    path
        Its full path, its name included.
    source
        The collection that this pipeline reads, if the stage is its first; else None.
    last
        Whether it ends the caller's own pipeline, where alone a write may stand.
    constant
        Whether it may be ``$documents``: the first stage of a pipeline without a collection.
    """

    path: str
    source: Target | None = None
    last: bool = False
    constant: bool = False


@dataclass(slots=True)
class StageCount:
    """Counts the stages of one pipeline, nested ones included."""

    limits: Limits
    stages: int = 0

    def add(self, more: int, path: str) -> None:
        """Count the stages of one more pipeline.

        Raises
        ------
        LimitExceeded
            If there are more than the limit allows.
        """
        self.stages += more
        if self.stages > self.limits.max_stages:
            raise self.limits.exceeded(
                "max_stages", f"the pipeline has {self.stages} stages or more", path
            )


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk through one pipeline of one app.

    Parameters
    ----------
    access
        Resolves the names of other collections.
    limits
        The limits.
    handlers
        By name, what rewrites a stage of plain values into one or more stages.
    writes
        Whether the caller's pipeline ends in a write.
    collated
        Whether it compares strings by a collation.
    count
        The stages seen so far.
    """

    access: Access
    limits: Limits
    handlers: Mapping[str, Handler]
    writes: bool
    collated: bool = False
    count: StageCount = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "count", StageCount(self.limits))

    def collection(
        self, stages: Any, source: Target, path: str, *, top: bool = False
    ) -> list[Stage]:
        """Rewrite a pipeline that reads a collection, so that it sees one app's documents.

        Parameters
        ----------
        stages
            The pipeline, of plain values.
        source
            The collection.
        path
            Where it stands.
        top
            Whether it is the caller's own, which may end in a write.
        """
        checked = self._list(stages, path)
        rewritten = self._stages(checked, path, source=source, top=top)
        if checked and next(iter(checked[0])) in FIRST_ONLY | {"$match"}:
            return rewritten  # these are scoped in their own filter
        return [{"$match": self.narrow({}, source)}, *rewritten]

    def narrow(self, query: dict[str, Any], source: Target) -> dict[str, Any]:
        """Put the scope of a collection into a checked filter."""
        return narrow(query, source.owner, collated=self.collated)

    def constants(self, stages: Any, path: str) -> list[Stage]:
        """Rewrite a pipeline that reads no collection: it begins with ``$documents``."""
        checked = self._list(stages, path)
        if not checked or "$documents" not in checked[0]:
            raise refused("pipeline", "without a collection it has to begin with $documents", path)
        return self._stages(checked, path, constant=True)

    def fed(self, stages: Any, path: str) -> list[Stage]:
        """Rewrite a pipeline whose documents come from the stage that holds it."""
        return self._stages(self._list(stages, path), path)

    def resolve(self, name: Any, operator: str, path: str) -> Target:
        """Say which collection a name inside a pipeline means.

        Raises
        ------
        ScopeDenied
            If this app may not read it.
        QueryRefused
            If it is no string, or malformed.
        """
        if not isinstance(name, str):
            raise refused(
                operator, "a collection is given as a string, and only in this database", path
            )
        with resolving(path):
            return self.access.resolve(name)

    def _list(self, stages: Any, path: str) -> list[Stage]:
        if not isinstance(stages, list):
            raise refused("pipeline", "a pipeline is a list of stages", path)
        self.count.add(len(stages), path)
        for index, stage in enumerate(stages):
            stage_parts(stage, f"{path}[{index}]")
        return stages

    def _stages(
        self,
        stages: list[Stage],
        path: str,
        *,
        source: Target | None = None,
        top: bool = False,
        constant: bool = False,
    ) -> list[Stage]:
        rewritten: list[Stage] = []
        for index, stage in enumerate(stages):
            name, body = stage_parts(stage, f"{path}[{index}]")
            below = f"{path}[{index}].{shown(name)}"
            known(name, STAGES, "stage", below)
            spot = Spot(
                path=below,
                source=source if index == 0 else None,
                last=top and index == len(stages) - 1,
                constant=constant and index == 0,
            )
            rewritten += self.handlers[name](self, name, body, spot)
        return rewritten


def stage_parts(stage: Any, path: str) -> tuple[str, Any]:
    """Return the name and the body of a stage, which has to be a mapping with one key."""
    if not isinstance(stage, dict) or len(stage) != 1:
        raise refused(type(stage).__name__, "a stage is a mapping with one key", path)
    ((name, body),) = stage.items()
    return name, body


Handler = Callable[[Walk, str, Any, Spot], list[Stage]]
"""Rewrites one stage: the walk, the stage's name, its body and where it stands."""
