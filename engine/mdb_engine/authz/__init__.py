"""Optional authorisation in front of an app: whether a user may do something."""

from __future__ import annotations

from mdb_engine.authz.authorizer import Authorizer
from mdb_engine.authz.providers import make_authorizer
from mdb_engine.exceptions import AuthorizerUnavailable, PolicyDenied

__all__ = ["Authorizer", "AuthorizerUnavailable", "PolicyDenied", "make_authorizer"]
