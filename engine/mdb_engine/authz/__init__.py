"""Optional authorisation in front of an app: whether a user may do something."""

from __future__ import annotations

from mdb_engine.authz.authorizer import Authorizer, AuthorizerUnavailable, PolicyDenied
from mdb_engine.authz.providers import make_authorizer

__all__ = ["Authorizer", "AuthorizerUnavailable", "PolicyDenied", "make_authorizer"]
