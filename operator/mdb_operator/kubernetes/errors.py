"""What an answer of the API server means: one table from HTTP to the operator's own errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from mdb_operator.exceptions import (
    AlreadyExists,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    KubernetesError,
    KubernetesUnavailable,
    NotFound,
)
from mdb_operator.kubernetes.resources import Resource

__all__ = ["answer_error", "stream_error"]

_DENIED = "denied the request"
"""Ends the API server's own words about the refusal of an admission webhook or policy."""

_BY_STATUS: dict[int, type[KubernetesError]] = {
    400: Invalid,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Expired,
    413: Invalid,
    422: Invalid,
    429: KubernetesUnavailable,
}


def answer_error(
    what: str, response: aiohttp.ClientResponse, payload: bytes, resource: Resource
) -> KubernetesError:
    """Return the error for an answer that is no success, without what a Secret's may quote."""
    try:
        status = json.loads(payload)
    except ValueError:
        status = {}
    if not isinstance(status, dict):
        status = {}
    reason = str(status.get("reason") or response.reason or "unknown")
    kind = AlreadyExists if reason == "AlreadyExists" else _BY_STATUS.get(response.status)
    if kind is None:
        kind = KubernetesUnavailable if response.status >= 500 else KubernetesError  # noqa: PLR2004
    if resource.sensitive and kind is Invalid:
        fields = [str(c.get("field")) for c in (status.get("details") or {}).get("causes") or []]
        text = "fields " + ", ".join(fields) if fields else "the server's text is withheld"
    else:
        text = str(status.get("message") or "")
        if resource.sensitive:  # whoever refuses by a webhook may quote what it refuses
            text = "".join(text.partition(_DENIED)[:2])
    after = response.headers.get("Retry-After", "")
    return kind(
        f"{what}: {reason}{': ' + text if text else ''}",
        status=response.status,
        retry_after=float(after) if after.isdigit() else None,
    )


def stream_error(what: str, status: Mapping[str, Any]) -> KubernetesError:
    """Return the error for an ``ERROR`` event of a watch, whose object is a Status."""
    code = int(status.get("code") or 0)
    kind = _BY_STATUS.get(code, KubernetesUnavailable)
    return kind(f"{what}: {status.get('reason') or 'error in the stream'}", status=code)
