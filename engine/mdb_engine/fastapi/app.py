"""Make an app's FastAPI application: lifespan, health, errors, JSON, CORS and policy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.params import Depends as DependsMarker
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from mdb_engine.authz.authorizer import Authorizer
from mdb_engine.authz.providers import make_authorizer
from mdb_engine.exceptions import Fault, ManifestInvalid
from mdb_engine.fastapi.context import AppContext, Engine
from mdb_engine.fastapi.errors import add_error_handlers
from mdb_engine.fastapi.health import health_routes
from mdb_engine.fastapi.json import MdbJSONResponse, MdbRoute
from mdb_engine.fastapi.policy import Door
from mdb_engine.fastapi.startup import Hook, lifespan
from mdb_engine.models.manifest import Cors, Manifest

__all__ = ["create_app"]


def create_app(
    engine: Engine,
    slug: str,
    manifest: Manifest,
    *,
    on_startup: Hook | None = None,
    on_shutdown: Hook | None = None,
    authorizer: Authorizer | None = None,
    dependencies: Sequence[DependsMarker] = (),
    **options: Any,
) -> FastAPI:
    """Make the FastAPI application of an app.

    Parameters
    ----------
    engine
        What it runs on; started and shut down with it.
    slug
        The app.
    manifest
        Its manifest.
    on_startup
        Called once the app is registered and connected, with the app if it takes an argument.
    on_shutdown
        Called before the engine is shut down, if the app had started.
    authorizer
        The app's own authoriser, where the manifest's ``auth.policy.provider`` is ``custom``.
    dependencies
        FastAPI dependencies of all routes.
    **options
        Other arguments of `fastapi.FastAPI`: ``title``, ``docs_url``, ``middleware``, and so on.
        ``lifespan`` is the engine's own; use ``on_startup`` and ``on_shutdown``.

    Raises
    ------
    ManifestInvalid
        If an authoriser that the manifest asks for cannot be had.
    """
    if "lifespan" in options:
        raise TypeError("create_app has a lifespan of its own; use on_startup and on_shutdown")
    policy = manifest.auth.policy
    if policy is None and authorizer is not None:
        raise ManifestInvalid(
            [Fault("auth.policy", "is missing, but create_app was given an authorizer=")]
        )
    chosen = None if policy is None else make_authorizer(policy, authorizer)
    context = AppContext(engine, slug, manifest, chosen)

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        for mounted in _mounted(app.routes):
            add_error_handlers(mounted)
        async with lifespan(app, context, on_startup, on_shutdown):
            yield

    options.setdefault("title", manifest.name or slug)
    options.setdefault("description", manifest.description or "")
    options.setdefault("default_response_class", MdbJSONResponse)
    app = FastAPI(lifespan=run, dependencies=[*dependencies], **options)
    app.router.route_class = MdbRoute
    app.router.routes[:0] = health_routes()  # before anything that would take their paths
    context.attach(app)
    add_error_handlers(app)
    Door(app, context)
    if manifest.cors.enabled:
        _add_cors(app, manifest.cors)
    return app


def _mounted(routes: Iterable[Any]) -> Iterator[Starlette]:
    """Yield the applications that are mounted below some routes."""
    for route in routes:
        inner = getattr(route, "app", None)
        if isinstance(inner, Starlette):
            yield inner
        below = getattr(getattr(route, "original_router", route), "routes", ())
        yield from _mounted(below)


def _add_cors(app: FastAPI, cors: Cors) -> None:
    if cors.allow_credentials and "*" in cors.allow_origins:
        raise ManifestInvalid(
            [Fault("cors.allow_origins", "must name origins where allow_credentials is true")]
        )
    app.add_middleware(
        CORSMiddleware,
        allow_origins=cors.allow_origins,
        allow_credentials=cors.allow_credentials,
        allow_methods=cors.allow_methods,
        allow_headers=cors.allow_headers,
        expose_headers=cors.expose_headers,
        max_age=cors.max_age,
    )
