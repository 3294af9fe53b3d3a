"""Let a route return documents as they are, whatever its annotation says.

``create_app`` makes every route an `MdbRoute`; routers of one's own are made with `MdbRouter`. A
route converts what pydantic and FastAPI's encoders could not be taught, see
`mdb_engine.core.documents`, before either of them sees it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import Any, Self

from fastapi import APIRouter, Response
from fastapi.encoders import ENCODERS_BY_TYPE
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute

from mdb_engine.core.documents import CONVERTERS, TEXTS, as_json, plain

__all__ = ["MdbJSONResponse", "MdbRoute", "MdbRouter", "plain"]

ENCODERS_BY_TYPE.update(
    {kind: convert for kind, convert in CONVERTERS.items() if kind not in (datetime, bytes)}
)


class MdbJSONResponse(JSONResponse):
    """A JSON response whose content may hold BSON types and dates.

    Of a generator, which is what FastAPI passes for an endpoint with ``yield``, it becomes a stream
    of JSON lines.
    """

    def __new__(cls, content: Any = None, *args: Any, **kwargs: Any) -> Self:
        """Make a response, or a stream."""
        if inspect.isasyncgen(content):
            lines: AsyncIterator[bytes] | Iterator[bytes] = _lines(content)
        elif inspect.isgenerator(content):
            lines = (as_json(item) + b"\n" for item in content)
        else:
            return super().__new__(cls)
        kwargs = {"media_type": "application/jsonl", **kwargs}
        return StreamingResponse(lines, *args, **kwargs)  # type: ignore[return-value]

    def render(self, content: Any) -> bytes:
        """Write the content as JSON in UTF-8; what is not a number is written as null."""
        return as_json(content)


async def _lines(items: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for item in items:
        yield as_json(item) + b"\n"


class MdbRoute(APIRoute):
    """A route whose endpoint may return documents of MongoDB, whatever its annotation says."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **kwargs: Any) -> None:
        super().__init__(path, self._converting(endpoint), **kwargs)

    def _converting(self, endpoint: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap an endpoint so that what it returns is converted."""
        if inspect.isasyncgenfunction(endpoint) or inspect.isgeneratorfunction(endpoint):
            return endpoint
        if inspect.iscoroutinefunction(endpoint):

            @functools.wraps(endpoint)
            async def converted(*args: Any, **kwargs: Any) -> Any:
                return self._converted(await endpoint(*args, **kwargs))

            return converted
        if inspect.isfunction(endpoint):

            @functools.wraps(endpoint)
            def converted_sync(*args: Any, **kwargs: Any) -> Any:
                return self._converted(endpoint(*args, **kwargs))

            return converted_sync
        return endpoint

    def _converted(self, value: Any) -> Any:
        if isinstance(value, Response):
            return value
        # A model takes dates; where there is none, FastAPI's encoders write them in another form.
        return plain(value, TEXTS if self.response_field is None else CONVERTERS)


class MdbRouter(APIRouter):
    """A router of `MdbRoute`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("route_class", MdbRoute)
        super().__init__(*args, **kwargs)
