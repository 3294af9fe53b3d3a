"""``bulk_write``: every request taken apart, scoped like the single operation, and made anew.

The drivers' request objects offer no public way to read them, so their private fields are read
here and nowhere else; a test makes each of them and compares, on the installed release.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne

from mdb_engine.access.model import Target
from mdb_engine.exceptions import OptionRefused
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.options import (
    DeleteOptions,
    ReplaceOptions,
    UpdateManyOptions,
    UpdateOptions,
    accept,
)
from mdb_engine.scoped.rewrite.filters import (
    exactly,
    scope_array_filters,
    scope_filter,
    scope_upsert_filter,
)
from mdb_engine.scoped.rewrite.updates import scope_update, stamp_document, stamp_replacement
from mdb_engine.scoped.rewrite.values import NO_CODECS, Codecs, members

__all__ = ["Request", "scope_requests"]

Request = (
    InsertOne[dict[str, Any]]
    | UpdateOne
    | UpdateMany
    | ReplaceOne[dict[str, Any]]
    | DeleteOne
    | DeleteMany
)
"""What ``bulk_write`` takes: the drivers' own classes."""


class _Scope(NamedTuple):
    target: Target
    limits: Limits
    codecs: Codecs


def scope_requests(
    requests: Iterable[Request],
    target: Target,
    limits: Limits,
    *,
    path: str = "requests",
    codecs: Codecs = NO_CODECS,
) -> list[Request]:
    """Scope the requests of a ``bulk_write``.

    Parameters
    ----------
    requests
        The caller's requests; they are never changed.
    target
        The collection, the app's own.
    limits
        The limits of size, depth and number.
    path
        How errors name the requests.

    Raises
    ------
    QueryRefused
        If one of them is refused as its single operation would be, or names another collection.
    LimitExceeded
        If there are too many, or one is too large or too deep.
    """
    scope = _Scope(target, limits, codecs)
    scoped: list[Request] = []
    for index, request in enumerate(members(requests, path)):
        if index >= limits.max_bulk_operations:
            raise limits.exceeded("max_bulk_operations", "bulk_write has more requests", path)
        scoped.append(_scope_request(request, scope, f"{path}[{index}]"))
    if not scoped:
        raise OptionRefused(f"{path} has to hold at least one request", path=path)
    return scoped


def _scope_request(request: Any, scope: _Scope, path: str) -> Request:
    kind = type(request)  # a subclass could send something else than it shows
    make = _KINDS.get(kind)
    if make is None:
        raise OptionRefused(
            f"{path} has to be one of {', '.join(sorted(known.__name__ for known in _KINDS))}, "
            f"not {kind.__name__}",
            path=path,
        )
    fields = _fields(request)
    if fields.pop("namespace", None) is not None:
        raise OptionRefused(f"{path} names a namespace; bulk_write is on one collection", path=path)
    return make(fields, scope, f"{path}.{kind.__name__}")


def _fields(request: Any) -> dict[str, Any]:
    slots = [slot for kind in type(request).__mro__ for slot in getattr(kind, "__slots__", ())]
    return {slot.removeprefix("_"): getattr(request, slot) for slot in slots}


def _insert(fields: Mapping[str, Any], scope: _Scope, path: str) -> Request:
    return InsertOne(stamp_document(fields["doc"], *scope[:2], path=path, codecs=scope.codecs))


def _replace(fields: Mapping[str, Any], scope: _Scope, path: str) -> Request:
    return ReplaceOne(
        _filter(fields, scope, path),
        stamp_replacement(
            fields["doc"], *scope[:2], path=f"{path}.replacement", codecs=scope.codecs
        ),
        **_options(fields, ReplaceOptions, scope.limits, path),
    )


def _update_one(fields: Mapping[str, Any], scope: _Scope, path: str) -> Request:
    return UpdateOne(
        _filter(fields, scope, path),
        scope_update(fields["doc"], *scope[:2], path=f"{path}.update", codecs=scope.codecs),
        **_options(fields, UpdateOptions, scope.limits, path),
    )


def _update_many(fields: Mapping[str, Any], scope: _Scope, path: str) -> Request:
    return UpdateMany(
        _filter(fields, scope, path),
        scope_update(fields["doc"], *scope[:2], path=f"{path}.update", codecs=scope.codecs),
        **_options(fields, UpdateManyOptions, scope.limits, path),
    )


def _delete_one(fields: Mapping[str, Any], scope: _Scope, path: str) -> Request:
    return DeleteOne(
        _filter(fields, scope, path), **_options(fields, DeleteOptions, scope.limits, path)
    )


def _delete_many(fields: Mapping[str, Any], scope: _Scope, path: str) -> Request:
    return DeleteMany(
        _filter(fields, scope, path), **_options(fields, DeleteOptions, scope.limits, path)
    )


_KINDS: Mapping[type, Callable[[Mapping[str, Any], _Scope, str], Request]] = {
    DeleteMany: _delete_many,
    DeleteOne: _delete_one,
    InsertOne: _insert,
    ReplaceOne: _replace,
    UpdateMany: _update_many,
    UpdateOne: _update_one,
}


def _filter(fields: Mapping[str, Any], scope: _Scope, path: str) -> dict[str, Any]:
    narrowed = scope_upsert_filter if fields.get("upsert") else scope_filter
    query = narrowed(fields["filter"], *scope[:2], path=f"{path}.filter", codecs=scope.codecs)
    return exactly(query, scope.target, fields)


def _options(fields: Mapping[str, Any], allowed: type, limits: Limits, path: str) -> dict[str, Any]:
    given = {key: fields[key] for key in allowed.__annotations__ if key in fields}
    if given.get("upsert") is None:
        given.pop("upsert", None)
    options = accept(path, given, allowed, limits)
    if "array_filters" in options:
        options["array_filters"] = scope_array_filters(
            options["array_filters"], limits, path=f"{path}.array_filters"
        )
    return options
