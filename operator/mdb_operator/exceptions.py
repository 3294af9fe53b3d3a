"""The errors of the operator's edge: what the API server can answer, one class per remedy.

Storage raises these instead of the client's exceptions, so that services and handlers know neither
aiohttp nor HTTP codes. None of them ever carries a request or response body.
"""

from __future__ import annotations

from typing import ClassVar

from mdb_engine.registry.models.installation import Installation

__all__ = [
    "AlreadyExists",
    "ConfigurationInvalid",
    "Conflict",
    "DatabaseHeld",
    "Expired",
    "Forbidden",
    "Invalid",
    "KubernetesError",
    "KubernetesUnavailable",
    "NotFound",
    "OperatorError",
]


class OperatorError(Exception):
    """The root of all errors that the operator raises on purpose.

    The message says what is wrong and what to do about it, free of secrets.
    """

    code: ClassVar[str] = "operator_error"
    """The machine-readable name of the mistake, a metric label and a log field."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigurationInvalid(OperatorError):
    """A setting is missing or wrong; the process must not start with it."""

    code = "configuration_invalid"


class DatabaseHeld(OperatorError):
    """Another installation manages the database; this one must not write to it."""

    code = "database_held"

    def __init__(self, message: str, holder: Installation) -> None:
        super().__init__(message)
        self.holder = holder


class KubernetesError(OperatorError):
    """The API server refused a request for a reason that no other class names."""

    code = "kubernetes_error"

    def __init__(self, message: str, *, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status  # HTTP's; 0 when there was no answer
        self.retry_after = retry_after  # seconds that the server asked to wait


class NotFound(KubernetesError):
    """The object is not there (any more)."""

    code = "not_found"


class AlreadyExists(KubernetesError):
    """Somebody created an object of this name first."""

    code = "already_exists"


class Conflict(KubernetesError):
    """The object changed since it was read; observe again, then decide again."""

    code = "conflict"


class Expired(KubernetesError):
    """The resource version is too old to continue from; list again (HTTP 410)."""

    code = "expired"


class Forbidden(KubernetesError):
    """RBAC does not allow the request; the chart's Roles and the settings disagree."""

    code = "forbidden"


class Invalid(KubernetesError):
    """The API server's validation refused the object; retrying cannot help."""

    code = "invalid"


class KubernetesUnavailable(KubernetesError):
    """No answer, a server error or throttling: try again later."""

    code = "kubernetes_unavailable"
