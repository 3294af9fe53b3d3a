"""Authorisation by Oso, embedded: a policy in Polar with rules ``allow(actor, action, resource)``.

Actor, action and resource are the strings of the question. Facts about users belong in the policy:
``has_role("ada", "admin");``.
"""

from __future__ import annotations

from oso import Oso
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["OsoAuthorizer", "OsoSettings"]


class OsoSettings(BaseModel):
    """``auth.policy.authorization`` of a manifest whose provider is oso."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str = Field(min_length=1, description="The policy, in Polar.")


class OsoAuthorizer:
    """Answers from a policy in Polar.

    Parameters
    ----------
    policy
        Its text.
    """

    def __init__(self, policy: str) -> None:
        self._oso = Oso()
        self._oso.load_str(policy)

    async def allows(self, subject: str, action: str, resource: str) -> bool:
        """Say whether a user may do an action on a resource."""
        return bool(self._oso.is_allowed(subject, action, resource))
