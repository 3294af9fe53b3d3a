"""Make an app's FastAPI application, or furnish one: lifespan, health, errors, CORS and policy."""

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
from mdb_engine.exceptions import Fault, ManifestInvalid, NotInitialized
from mdb_engine.fastapi.context import AppContext, Engine
from mdb_engine.fastapi.errors import add_error_handlers
from mdb_engine.fastapi.health import health_routes
from mdb_engine.fastapi.json import MdbJSONResponse, MdbRoute
from mdb_engine.fastapi.policy import Door, leaves
from mdb_engine.fastapi.startup import Hook, Lifespan, hooked, lifespan
from mdb_engine.models.manifest import Cors, Manifest, ManifestSource

__all__ = ["create_app", "engine_lifespan", "install"]


def create_app(
    engine: Engine,
    slug: str,
    manifest: ManifestSource,
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
        Other arguments of `fastapi.FastAPI`: ``title``, ``docs_url``, ``lifespan``, and so on.

    Raises
    ------
    ManifestInvalid
        If the manifest is, or an authoriser that it asks for cannot be had.
    """
    loaded = Manifest.of(slug, manifest)
    options.setdefault("title", loaded.name or slug)
    options.setdefault("description", loaded.description or "")
    options.setdefault("default_response_class", MdbJSONResponse)
    app = FastAPI(dependencies=[*dependencies], **options)
    app.router.route_class = MdbRoute
    own = app.router.lifespan_context
    app.router.lifespan_context = hooked(own, on_startup, on_shutdown)
    add_error_handlers(app)
    install(app, engine, slug, loaded, authorizer=authorizer)
    return app


def install(
    app: FastAPI,
    engine: Engine,
    slug: str,
    manifest: ManifestSource,
    *,
    authorizer: Authorizer | None = None,
) -> None:
    """Let an application that there is already run on an engine.

    Its routes, their JSON, its middleware and its handlers of errors stay what they are. Its own
    lifespan is run inside the engine's, so that the database is there from its first line to its
    last. ``/health`` and ``/ready`` are added where the application has no such route.

    Parameters
    ----------
    app
        The application, before it is started.
    engine
        What it runs on; started and shut down with it.
    slug
        The app.
    manifest
        Its manifest.
    authorizer
        The app's own authoriser, where the manifest's ``auth.policy.provider`` is ``custom``.

    Raises
    ------
    ManifestInvalid
        If the manifest is, an authoriser that it asks for cannot be had, or it answers other
        origins, which the application does already.
    NotInitialized
        If the application has been started, or has an engine.

    Examples
    --------
    ::

        app = FastAPI(lifespan=lifespan)
        app.include_router(orders)
        install(app, MongoDBEngine.from_environment(), "shop", Path("manifest.json"))
    """
    if app.middleware_stack is not None:
        raise NotInitialized(f"app {slug!r} has been started; call install before that")
    own = app.router.lifespan_context
    app.router.lifespan_context = _furnish(app, engine, slug, manifest, authorizer, own)


def engine_lifespan(engine: Engine, slug: str, manifest: Manifest) -> Lifespan:
    """Return a lifespan that furnishes the application that it is given to, when that starts."""
    furnished: dict[int, Lifespan] = {}  # an application may be started again

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[Any]:
        if id(app) not in furnished:
            app.middleware_stack = None  # it was built when the application was asked to start
            furnished[id(app)] = _furnish(app, engine, slug, manifest, None, _nothing)
            app.middleware_stack = app.build_middleware_stack()
        async with furnished[id(app)](app):
            yield

    return run


@asynccontextmanager
async def _nothing(_: FastAPI) -> AsyncIterator[None]:
    yield


def _furnish(
    app: FastAPI,
    engine: Engine,
    slug: str,
    manifest: ManifestSource,
    authorizer: Authorizer | None,
    own: Lifespan,
) -> Lifespan:
    """Give an application everything but the lifespan, which is returned."""
    installed = getattr(app.state, "mdb", None)
    if isinstance(installed, AppContext):
        raise NotInitialized(f"this application is app {installed.slug!r} already")
    loaded = Manifest.of(slug, manifest)
    policy = loaded.auth.policy
    if policy is None and authorizer is not None:
        raise ManifestInvalid([Fault("auth.policy", "is missing, but an authorizer= was given")])
    if loaded.cors.enabled:
        _add_cors(app, loaded.cors)
    chosen = None if policy is None else make_authorizer(policy, authorizer)
    context = AppContext(engine, slug, loaded, chosen)
    engine.choose(slug)

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[Any]:
        for mounted in _mounted(app.routes):
            add_error_handlers(mounted)
        async with lifespan(app, context, own) as state:
            yield state

    taken = {getattr(route, "path", "") for route in leaves(app.routes)}
    app.router.routes[:0] = health_routes(taken)  # before anything that would take their paths
    context.attach(app)
    add_error_handlers(app, anything=False)
    Door(app, context)
    return run


def _mounted(routes: Iterable[Any]) -> Iterator[Starlette]:
    """Yield the applications that are mounted below some routes."""
    for route in routes:
        inner = getattr(route, "app", None)
        if isinstance(inner, Starlette):
            yield inner
        below = getattr(getattr(route, "original_router", route), "routes", ())
        yield from _mounted(below)


def _add_cors(app: FastAPI, cors: Cors) -> None:
    if any(getattr(one, "cls", None) == CORSMiddleware for one in app.user_middleware):
        raise ManifestInvalid(
            [Fault("cors.enabled", "is true, but the application has a CORSMiddleware; keep one")]
        )
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
