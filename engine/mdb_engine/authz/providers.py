"""Make the authoriser that a manifest asks for, or refuse to start."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from mdb_engine.authz.authorizer import Authorizer
from mdb_engine.exceptions import Fault, ManifestInvalid
from mdb_engine.models.manifest import Policy

__all__ = ["make_authorizer"]

PROVIDERS: Final[Mapping[str, tuple[str, str, str]]] = {
    "casbin": ("mdb_engine.authz.casbin", "CasbinAuthorizer", "CasbinSettings"),
    "oso": ("mdb_engine.authz.oso", "OsoAuthorizer", "OsoSettings"),
}
"""Module, authoriser and settings of each provider; imported when asked for, as it is an extra."""

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
        If the provider is unknown or not installed, or its settings are wrong.
    """
    if policy.provider == "custom":
        if custom is None:
            raise _invalid("provider", "is custom; pass create_app(authorizer=...) the app's own")
        return custom
    if custom is not None:
        raise _invalid("provider", "is not custom, but create_app was given an authorizer=")
    try:
        module_name, authorizer_name, settings_name = PROVIDERS[policy.provider]
    except KeyError:
        raise _invalid("provider", f"{policy.provider!r} is not known") from None
    try:
        module: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise _invalid(
            "provider",
            f"{policy.provider} is not installed (no module {error.name}); install "
            f"mdbapp-engine[{policy.provider}]",
        ) from None
    try:
        settings = getattr(module, settings_name).model_validate(policy.authorization)
    except ValidationError as error:
        faults = [
            Fault(".".join((_AT, "authorization", *map(str, one["loc"]))), one["msg"])
            for one in error.errors(include_url=False, include_input=False)
        ]
        raise ManifestInvalid(faults) from None
    try:
        authorizer: Authorizer = getattr(module, authorizer_name)(**settings.model_dump())
    except Exception as error:  # noqa: BLE001 - each provider has errors of its own
        raise _invalid("authorization", f"{policy.provider} refuses it: {error}") from None
    return authorizer


def _invalid(key: str, message: str) -> ManifestInvalid:
    return ManifestInvalid([Fault(f"{_AT}.{key}", message)])
