"""Make what MongoDB returns fit for JSON, so that a route can return documents as they are.

FastAPI serialises twice over: a route without a return annotation goes through its encoders, one
with an annotation through pydantic, and neither knows BSON. The encoders can be taught; pydantic
cannot, so an `MdbRoute` converts before it. ``create_app`` makes every route an `MdbRoute`; routers
of one's own are made with `MdbRouter`.
"""

from __future__ import annotations

import base64
import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from fastapi import APIRouter, Response
from fastapi.encoders import ENCODERS_BY_TYPE
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

__all__ = ["MdbJSONResponse", "MdbRoute", "MdbRouter", "plain"]

Converter = Callable[[Any], Any]


def _datetime(value: datetime) -> str:
    # What MongoDB stores is UTC. Without an offset JavaScript would take it for local time.
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()


def _binary(value: Binary) -> str:
    if value.subtype in {3, 4}:
        return str(value.as_uuid(value.subtype))
    return base64.b64encode(value).decode("ascii")


CONVERTERS: Final[dict[type[Any], Converter]] = {
    ObjectId: str,
    Decimal128: str,
    Binary: _binary,
    Timestamp: lambda value: value.as_datetime().isoformat(),
    DatetimeMS: lambda value: _datetime(value.as_datetime()),
    Regex: lambda value: value.pattern,
    Code: str,
    DBRef: lambda value: {"collection": value.collection, "id": plain(value.id)},
    MinKey: lambda _: None,
    MaxKey: lambda _: None,
}
"""How each BSON type that JSON and Python lack is written; a Decimal128 as text, to stay exact."""

ENCODERS_BY_TYPE.update(CONVERTERS)


def plain(value: Any) -> Any:
    """Return a value with all BSON types in it converted; what holds none is returned as it is."""
    converter = CONVERTERS.get(type(value))
    if converter is not None:
        return converter(value)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    return value


class MdbJSONResponse(JSONResponse):
    """A JSON response whose content may hold BSON types and datetimes."""

    def render(self, content: Any) -> bytes:
        """Write the content as JSON in UTF-8; what is not a number is written as null."""
        return json.dumps(
            _jsonable(content), ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()


def _jsonable(value: Any) -> Any:
    converted = plain(value) if not isinstance(value, dict | list | tuple) else value
    if isinstance(converted, Mapping):
        return {str(key): _jsonable(item) for key, item in converted.items()}
    if isinstance(converted, list | tuple | set | frozenset):
        return [_jsonable(item) for item in converted]
    if isinstance(converted, datetime):
        return _datetime(converted)
    if isinstance(converted, date):
        return converted.isoformat()
    if isinstance(converted, UUID):
        return str(converted)
    if isinstance(converted, bytes):
        return base64.b64encode(converted).decode("ascii")
    if isinstance(converted, float) and not math.isfinite(converted):
        return None
    return converted


class MdbRoute(APIRoute):
    """A route whose endpoint may return documents of MongoDB, whatever its annotation says."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **kwargs: Any) -> None:
        super().__init__(path, _converting(endpoint), **kwargs)


class MdbRouter(APIRouter):
    """A router of `MdbRoute`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("route_class", MdbRoute)
        super().__init__(*args, **kwargs)


def _converting(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an endpoint so that BSON types in what it returns are converted."""
    if inspect.isasyncgenfunction(endpoint) or inspect.isgeneratorfunction(endpoint):
        return endpoint
    if inspect.iscoroutinefunction(endpoint):

        @functools.wraps(endpoint)
        async def converted(*args: Any, **kwargs: Any) -> Any:
            return _converted(await endpoint(*args, **kwargs))

        return converted
    if inspect.isfunction(endpoint):

        @functools.wraps(endpoint)
        def converted_sync(*args: Any, **kwargs: Any) -> Any:
            return _converted(endpoint(*args, **kwargs))

        return converted_sync
    return endpoint


def _converted(value: Any) -> Any:
    return value if isinstance(value, Response) else plain(value)
