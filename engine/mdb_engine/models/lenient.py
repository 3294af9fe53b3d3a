"""A manifest of the earlier version, read for what of it has a place here.

That version knew sections that nothing here acts on. To the library such a manifest is invalid, as
a section that is not acted on may be one that protects something. Whoever comes over wants the rest
now and a list of what to do about each section that was left out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from mdb_engine.constants import COLLECTION_PATTERN
from mdb_engine.exceptions import Fault, ManifestInvalid
from mdb_engine.models.base import Location, dotted
from mdb_engine.models.manifest import Manifest

__all__ = ["LeftOut", "read_leniently"]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A section that was left out.

    Parameters
    ----------
    path
        Where it stood, as a dotted path.
    advice
        Why, and what to do; holds nothing of what stood there.
    """

    path: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}: {self.advice}"


_OWN_CODE: Final = "is left to the app's own code, which can use any library for it"

_ADVICE: Final[Mapping[str, str]] = {
    "auth.users": (
        "is not acted upon; its collection is declared, and the app's own code keeps the users,"
        " with FastAPI Users for example"
    ),
    "auth.mode": "sessions shared between apps do not exist; put an identity provider in front",
    "auth.policy.provider": (
        "the Oso library has been given up by its makers; write casbin, or custom, with an"
        " authorizer"
    ),
    "auth.public_routes": "is not acted upon; say it with auth.policy or routes' dependencies",
    "collection_settings": "is not acted upon; say it with collections",
    "embedding_config": f"embeddings: {_OWN_CODE}",
    "graph_config": f"graphs: {_OWN_CODE}",
    "initial_data": (
        "is not inserted; its collections are declared, and a Job or the app's startup inserts it"
        " once (insert where count_documents is 0)"
    ),
    "llm_config": f"language models: {_OWN_CODE}",
    "memory_config": f"memories: {_OWN_CODE}; its collection is declared",
    "observability": "is not acted upon; /health, /ready and the metrics are always there",
    "token_management": "is not acted upon; sessions are those of the library, signed per app",
    "websockets": "is not acted upon; write an @app.websocket route, which the policy guards",
}
"""What to do about the sections that most manifests have; others are named with what is known."""

_DEPTHS: Final[Mapping[str, int]] = {"auth": 3, "cors": 2, "managed_indexes": 3}
"""How deep a part lies that goes as a whole: an index of which a part lacks is another index."""

_COLLECTION_DEPTH: Final = 2

_COLLECTION: Final = re.compile(COLLECTION_PATTERN)

_MOST_ROUNDS: Final = 1_000
"""How often something is left out before it is given up: more than any manifest has keys."""


def read_leniently(data: Mapping[str, Any]) -> tuple[Manifest, tuple[LeftOut, ...]]:
    """Read what can be read of a manifest, and say of the rest what to do about it.

    Nothing that narrows access is lost in silence: where ``data_access`` cannot be read, the app
    reads its own data alone and nobody else's app reads it.

    Raises
    ------
    ManifestInvalid
        If nothing is left that could be one: above all without a valid slug.
    """
    left: dict[str, LeftOut] = {}
    document: dict[str, Any] = copy.deepcopy(dict(data))
    document.pop("_id", None)  # as the earlier version stored it
    declared = document.setdefault("managed_indexes", {})
    if isinstance(declared, dict):
        for name in _collections_of(document):
            declared.setdefault(name, [])
    for _ in range(_MOST_ROUNDS):
        try:
            manifest = Manifest.model_validate(document, by_alias=False, by_name=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)[0]
        else:
            return manifest, tuple(left.values())
        below = found.get("ctx", {}).get("path", ()) if found["type"] == "rule" else ()
        unknown = found["type"] == "extra_forbidden"
        why = "is not known here" if unknown else found["msg"].removeprefix("Value error, ")
        gone = _leave_out(document, (*found["loc"], *below), why)
        left.setdefault(gone.path, gone)
    raise ManifestInvalid([Fault("", "cannot be read, whatever is left out")])


def _leave_out(document: dict[str, Any], location: Location, why: str) -> LeftOut:
    """Take out the least part without which it may be valid."""
    steps = [step for step in location if step != "[key]"]
    if not steps or steps[0] == "slug":
        raise ManifestInvalid([Fault(dotted(tuple(steps)), why)])
    if steps[0] == "data_access":
        # What it would have kept others from must not be lost with it.
        document["data_access"] = {"cross_app_policy": "deny_all"}
        text = f"{dotted(tuple(steps))}: {why}. Until it is corrected, no data crosses between"
        return LeftOut("data_access", f"{text} this app and others")
    steps = _existing(document, steps[: _DEPTHS.get(str(steps[0]), len(steps))])
    holder: Any = document
    for step in steps[:-1]:
        holder = holder[step]
    gone, last = holder[steps[-1]], steps[-1]
    if steps[0] == "managed_indexes" and len(steps) == _COLLECTION_DEPTH and gone:
        holder[last] = []  # the collection is declared all the same
    else:
        del holder[last]
    path = dotted(tuple(steps))
    if isinstance(last, int) and isinstance(gone, Mapping):
        path = f"{dotted(tuple(steps[:-1]))}.{gone.get('name') or gone.get('type') or last}"
    return LeftOut(path, _ADVICE.get(path, why))


def _existing(document: Mapping[str, Any], steps: list[str | int]) -> list[str | int]:
    """Return the steps as far as there is something."""
    above: Any = document
    for depth, step in enumerate(steps):
        try:
            above = above[step]
        except (IndexError, KeyError, TypeError):
            return steps[:depth]
    return steps


def _collections_of(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the collections that sections name which are not acted upon."""
    auth, declared = document.get("auth"), document.get("collections")
    users = auth.get("users") if isinstance(auth, Mapping) else None
    names: list[str] = []
    if isinstance(users, Mapping) and users.get("enabled"):
        names.append(str(users.get("collection_name", "users")))
    for key, section in document.items():
        if key.endswith("_config") and isinstance(section, Mapping) and section.get("enabled"):
            names += _named_in(section)
    for section in (document.get("initial_data"), declared):
        names += map(str, section) if isinstance(section, Mapping) else ()
    for name in names:
        short = name.removeprefix(f"{document.get('slug')}_")
        if _COLLECTION.fullmatch(short):
            yield short


def _named_in(section: Mapping[str, Any]) -> Iterator[str]:
    for key, value in section.items():
        if key == "collection_name" and isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _named_in(value)
