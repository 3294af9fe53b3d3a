"""Who may read whom: both sides must want it.  Pure, so that every case is tested by table."""

from __future__ import annotations

from collections.abc import Mapping

from mdb_engine.models.naming import app_key
from mdb_engine.registry.models.app import AppRecord, DeniedScope

__all__ = ["GRANT_PENDING", "NOT_GRANTED", "resolve"]

GRANT_PENDING = "GrantPending"
"""There is no such app yet; the grant comes by itself once there is."""

NOT_GRANTED = "NotGranted"
"""There is such an app, and it has not consented."""


def resolve(
    reader: AppRecord, apps: Mapping[str, AppRecord]
) -> tuple[tuple[str, ...], tuple[DeniedScope, ...]]:
    """Say which of the scopes that an app names it gets.

    Parameters
    ----------
    reader
        The app that names.
    apps
        All that is registered of the apps that it names, by `app_key`.

    Returns
    -------
    tuple
        The granted slugs, its own included, and the denied ones; both sorted.
    """
    granted, denied = [reader.slug], []
    for slug in reader.spec.read_scopes:
        if slug == reader.slug:
            continue
        refusal = _refusal(reader, slug, apps.get(app_key(slug)))
        if refusal is None:
            granted.append(slug)
        else:
            denied.append(refusal)
    return tuple(sorted(granted)), tuple(sorted(denied))


def _refusal(reader: AppRecord, slug: str, owner: AppRecord | None) -> DeniedScope | None:
    if reader.spec.denies_all:
        message = f"dataAccess.crossAppPolicy of {reader.slug} is DenyAll"
        return DeniedScope(slug, NOT_GRANTED, message)
    if owner is None or owner.slug != slug or not owner.active:
        message = f"there is no app {slug} yet; it is granted once that is registered and consents"
        return DeniedScope(slug, GRANT_PENDING, message)
    if owner.spec.denies_all:
        message = f"dataAccess.crossAppPolicy of {slug} is DenyAll"
        return DeniedScope(slug, NOT_GRANTED, message)
    if owner.owner.namespace == reader.owner.namespace or _consents(owner, reader):
        return None
    place = f"{{namespace: {reader.owner.namespace}, slug: {reader.slug}}}"
    message = f"the owner of {slug} must add {place} to its dataAccess.readers"
    return DeniedScope(slug, NOT_GRANTED, message)


def _consents(owner: AppRecord, reader: AppRecord) -> bool:
    return any(
        named.namespace in ("*", reader.owner.namespace) and named.slug in (None, reader.slug)
        for named in owner.spec.data_access.readers
    )
