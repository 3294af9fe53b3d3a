from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import mdb_engine.fastapi.dependencies
import mdb_engine.registry.registry  # noqa: F401 - with these two, all errors are known
from mdb_engine import exceptions
from mdb_engine.exceptions import Fault, ManifestInvalid, MdbEngineError, SlugTaken
from mdb_engine.registry.models.app import Owner


def kinds(root: type[MdbEngineError] = MdbEngineError) -> Iterator[type[MdbEngineError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__.startswith("mdb_engine."):  # other suites of this process have some, too
            yield from kinds(kind)


def example(kind: type[MdbEngineError]) -> MdbEngineError:
    if issubclass(kind, ManifestInvalid):
        return kind([Fault("slug", "is missing"), Fault("", "is odd")])
    if issubclass(kind, SlugTaken):
        return kind("it is taken", holder=Owner("shop", "orders", "uid"))
    return kind("it is so", path="a.b")


@pytest.mark.parametrize("kind", sorted(set(kinds()), key=str))
def test_every_error_goes_through_a_process_pool_as_it_is(kind: type[MdbEngineError]) -> None:
    error = example(kind)
    copies: list[Any] = [
        *(pickle.loads(pickle.dumps(error, version)) for version in range(2, 6)),  # noqa: S301
        copy.copy(error),
        copy.deepcopy(error),
    ]
    for other in copies:
        assert type(other) is kind
        assert (str(other), other.args) == (str(error), error.args)
        assert vars(other) == vars(error)


def test_the_tree_that_the_module_shows_is_the_tree_of_the_classes() -> None:
    text = exceptions.__doc__ or ""
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    shown = [(len(line) - len(line.lstrip()), line.strip()) for line in lines]

    public = {kind for kind in kinds() if not kind.__name__.startswith("_")}
    depths = {(4 * kind.mro().index(MdbEngineError) + 4, kind.__name__) for kind in public}
    assert sorted(shown) == sorted(depths)


@pytest.mark.parametrize("kind", sorted(set(kinds()), key=str))
def test_every_public_error_is_in_the_one_module(kind: type[MdbEngineError]) -> None:
    assert kind.__name__.startswith("_") or kind.__module__ == "mdb_engine.exceptions"
