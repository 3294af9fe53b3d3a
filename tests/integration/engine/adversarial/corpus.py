"""Read the adversarial corpus: calls that try to leave the scope, and how each one is refused.

It is data, in YAML, so that somebody who knows MongoDB and no Python can read it and add to it.
Tags make what YAML cannot say: ``!code`` (JavaScript), ``!text`` (a subclass of str),
``!update_one`` and its like (requests of a bulk), ``!index``, ``!deep`` (nesting), ``!long`` (a
string), ``!stages``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from bson.code import Code
from pymongo import DeleteMany, IndexModel, InsertOne, UpdateMany, UpdateOne

from mdb_engine import exceptions

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Attack:
    """One call that has to be refused.

    Attributes
    ----------
    source
        File and number, for the test's name.
    collection, method, args, options
        The call on the scoped database of ``shop``.
    error
        The class that refuses it.
    operator
        What the error's message has to name.
    path
        Where the error has to say that it stands; None where a whole method is refused.
    """

    source: str
    collection: str
    method: str
    error: type[exceptions.MdbEngineError]
    operator: str
    args: list[Any] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    path: str | None = None

    def check(self, error: exceptions.MdbEngineError) -> None:
        """Assert that an error is the one that the corpus expects."""
        assert type(error) is self.error or issubclass(type(error), self.error), repr(error)
        assert self.operator in str(error), f"{error} does not name {self.operator}"
        if self.path is not None:
            assert error.path == self.path
            assert self.path in str(error)


class _Text(str):
    """A string that is none: the engine has to see through it."""

    __slots__ = ()

    def startswith(self, *_: Any) -> bool:
        return False

    def split(self, *_: Any, **__: Any) -> list[str]:
        return ["harmless"]


class _Loader(yaml.SafeLoader):
    """YAML with the tags of the corpus; mapping keys may be of any kind, as a caller's may."""


def _deep(levels: int) -> dict[str, Any]:
    nested: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        nested = {"a": nested}
    return nested


def _tag(name: str, make: Callable[..., Any], *, spread: bool = False) -> None:
    def construct(loader: yaml.SafeLoader, node: yaml.ScalarNode | yaml.SequenceNode) -> Any:
        if isinstance(node, yaml.SequenceNode):
            items = loader.construct_sequence(node, deep=True)
            return make(*items) if spread else make(items)
        return make(loader.construct_scalar(node))

    _Loader.add_constructor(name, construct)


_tag("!code", Code)
_tag("!text", _Text)
_tag("!deep", lambda levels: _deep(int(levels)))
_tag("!long", lambda length: "x" * int(length))
_tag("!stages", lambda count: [{"$match": {}}] * int(count))
_tag("!set", set)
_tag("!insert_one", InsertOne, spread=True)
_tag("!update_one", UpdateOne, spread=True)
_tag("!update_many", UpdateMany, spread=True)
_tag("!delete_many", DeleteMany, spread=True)
_tag("!index", IndexModel, spread=True)


def _attack(entry: Mapping[str, Any], source: str) -> Attack:
    collection, method = entry["do"].rsplit(".", 1)
    kept = {key: entry[key] for key in ("args", "options", "operator", "path") if key in entry}
    error = getattr(exceptions, entry["error"])
    return Attack(source=source, collection=collection, method=method, error=error, **kept)


def load() -> list[Attack]:
    """Read every file of the corpus."""
    attacks = []
    for file in sorted(FOLDER.glob("*.yaml")):
        entries = yaml.load(file.read_text(), Loader=_Loader)  # noqa: S506 - it is a SafeLoader
        attacks += [
            _attack(entry, f"{file.stem}-{number}") for number, entry in enumerate(entries, 1)
        ]
    return attacks
