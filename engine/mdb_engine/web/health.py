"""``/health`` says that the process lives, ``/ready`` whether it can serve, and if not, why."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from mdb_engine.web.context import context_of

__all__ = ["HEALTH_PATHS", "router"]

HEALTH_PATHS = frozenset({"/health", "/ready"})
"""What a probe asks for, without a user."""

router = APIRouter(tags=["health"])


@router.get("/health", summary="Whether the process lives")
async def health(request: Request) -> dict[str, str]:
    """Answer without a look at MongoDB: restarting the process would not mend that."""
    return {"status": "healthy", "slug": context_of(request).slug}


@router.get("/ready", summary="Whether the app can serve")
async def ready(request: Request, response: Response) -> dict[str, Any]:
    """Answer 200 or 503, with every check and what else somebody should know."""
    context = context_of(request)
    readiness = context.readiness()
    response.status_code = 200 if readiness.ready else 503
    return {
        "ready": readiness.ready,
        "slug": context.slug,
        "checks": {check.name: "ok" if check.ok else check.message for check in readiness.checks},
        "notes": list(readiness.notes),
    }
