"""Authorisation by Casbin, embedded: policies come from the manifest and live in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import casbin
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["CasbinAuthorizer", "CasbinSettings"]

ACL: Final = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && (p.obj == "*" || keyMatch(r.obj, p.obj)) && (p.act == "*" || r.act == p.act)
"""
"""Who may do what, one by one; a resource may end in ``*``."""

RBAC: Final = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && (p.obj == "*" || keyMatch(r.obj, p.obj)) && (p.act == "*" || r.act == p.act)
"""
"""The same through roles, which may hold other roles."""


class CasbinSettings(BaseModel):
    """``auth.policy.authorization`` of a manifest whose provider is casbin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        default="rbac", description="acl, rbac, or the text of a Casbin model of one's own."
    )
    policies: tuple[tuple[str, ...], ...] = Field(
        default=(), description="Lines of the policy: subject or role, resource, action."
    )
    roles: tuple[tuple[str, str], ...] = Field(
        default=(), description="Who has which role: subject, role."
    )


class CasbinAuthorizer:
    """Answers from a Casbin model and policy.

    Parameters
    ----------
    model
        ``acl``, ``rbac``, or the text of a model whose request is ``sub, obj, act``.
    policies
        Lines of the policy: subject or role, resource, action.
    roles
        Pairs of subject and role.
    """

    def __init__(
        self,
        model: str = "rbac",
        policies: Sequence[Sequence[str]] = (),
        roles: Sequence[Sequence[str]] = (),
    ) -> None:
        parsed = casbin.Model()
        parsed.load_model_from_text({"acl": ACL, "rbac": RBAC}.get(model, model))
        self._enforcer = casbin.Enforcer(parsed)
        for policy in policies:
            self._enforcer.add_policy(*policy)
        for role in roles:
            self._enforcer.add_grouping_policy(*role)

    async def allows(self, subject: str, action: str, resource: str) -> bool:
        """Say whether a user may do an action on a resource."""
        return bool(self._enforcer.enforce(subject, resource, action))
