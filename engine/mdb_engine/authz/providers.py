"""Make the authoriser that a manifest asks for, or refuse to start."""

from __future__ import annotations

import importlib
from typing import Any, Final

from pydantic import ValidationError

from mdb_engine.authz.authorizer import Authorizer
from mdb_engine.exceptions import Fault, ManifestInvalid
from mdb_engine.models.manifest import Policy

__all__ = ["make_authorizer"]

_AT: Final = "auth.policy"


def make_authorizer(policy: Policy, custom: Authorizer | None = None) -> Authorizer:
    """Return the authoriser that a manifest's ``auth.policy`` asks for.

    Parameters
    ----------
    policy
        What the manifest says.
    custom
        The app's own authoriser, for ``provider: custom``.

    Raises
    ------
    ManifestInvalid
        If the provider is not installed, or its settings are wrong.
    """
    if policy.provider == "custom":
        if custom is None:
            raise _invalid("provider", "is custom; pass create_app(authorizer=...) the app's own")
        return custom
    if custom is not None:
        raise _invalid("provider", "is not custom, but create_app was given an authorizer=")
    try:
        casbin: Any = importlib.import_module("mdb_engine.authz.casbin")
    except ModuleNotFoundError as error:
        raise _invalid(
            "provider",
            f"casbin is not installed (no module {error.name}); install mdbapp-engine[casbin]",
        ) from None
    try:
        settings = casbin.CasbinSettings.model_validate(policy.authorization)
    except ValidationError as error:
        faults = [
            Fault(".".join((_AT, "authorization", *map(str, one["loc"]))), one["msg"])
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise ManifestInvalid(faults) from None
    try:
        authorizer: Authorizer = casbin.CasbinAuthorizer(**settings.model_dump())
    except ManifestInvalid:
        raise
    except Exception as error:  # noqa: BLE001 - Casbin raises whatever its parsers raise
        raise _invalid("authorization", f"casbin refuses it: {error}") from None
    return authorizer


def _invalid(key: str, message: str) -> ManifestInvalid:
    return ManifestInvalid([Fault(f"{_AT}.{key}", message)])
