"""The question that every authoriser answers, and the errors around it."""

from __future__ import annotations

import logging
from typing import Protocol, runtime_checkable

from mdb_engine.exceptions import (
    AuthorizerUnavailable,
    MdbEngineError,
    PolicyDenied,
)

__all__ = ["Authorizer", "authorize"]

_logger = logging.getLogger("mdb_engine.authz")


@runtime_checkable
class Authorizer(Protocol):
    """Decides whether a user may do something."""

    async def allows(self, subject: str, action: str, resource: str) -> bool:
        """Say whether a user may do an action on a resource.

        Parameters
        ----------
        subject
            Who asks: the subject of a session, or ``anonymous``, which no session's subject is.
        action
            What they want to do: ``read``.
        resource
            With what: ``reports``.
        """


async def authorize(authorizer: Authorizer, subject: str, action: str, resource: str) -> None:
    """Ask an authoriser; return only if it says yes.

    Raises
    ------
    PolicyDenied
        If it says no, or anything but yes.
    AuthorizerUnavailable
        If it fails.
    """
    try:
        answer = await authorizer.allows(subject, action, resource)
    except MdbEngineError:
        raise
    except Exception as error:
        _logger.exception("the authoriser failed, asked about the action %r", action)
        # `from None`: what a policy says about a user is nobody else's business.
        raise AuthorizerUnavailable(
            f"the authoriser failed ({type(error).__name__}); access is refused until it answers"
        ) from None
    if answer is not True:
        raise PolicyDenied(f"the app's policy does not allow {action!r} on {resource!r}")
