from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import mdb_engine.fastapi.dependencies
import mdb_engine.registry.registry  # noqa: F401 - with these two, all errors are known
from mdb_engine.exceptions import Fault, ManifestInvalid, MdbEngineError, SlugTaken
from mdb_engine.registry.models.app import Owner


def kinds(root: type[MdbEngineError] = MdbEngineError) -> Iterator[type[MdbEngineError]]:
    yield root
    for kind in root.__subclasses__():
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
