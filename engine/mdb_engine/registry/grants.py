"""The rows by which every pod learns who may read whose data, and which tokens are good."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from mdb_engine.access.model import Grant, Verifier
from mdb_engine.constants import MAX_ATTEMPTS
from mdb_engine.core.clock import Clock, utcnow
from mdb_engine.core.secret import SecretRecord
from mdb_engine.exceptions import RowDamaged, VersionConflict
from mdb_engine.models.naming import app_key
from mdb_engine.registry.consent import resolve
from mdb_engine.registry.models.app import AppRecord, GrantOutcome
from mdb_engine.registry.storage.apps import AppStore
from mdb_engine.registry.storage.grants import GrantStore
from mdb_engine.registry.storage.secrets import SecretStore

__all__ = ["GrantService"]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an app's row is and should be."""

    slug: str
    outcome: GrantOutcome | None
    found: Grant | None
    wanted: Grant | None

    @property
    def differs(self) -> bool:
        return self.found != self.wanted


class GrantService:
    """Resolves and publishes grants.

    Parameters
    ----------
    apps, secrets
        What grants follow from.
    grants
        Where they are published.
    clock
        The time by which verifiers end.

    Notes
    -----
    Two operators may publish at once, one of them from what it read before a consent was withdrawn.
    Rows are therefore read before what they follow from, written by compare-and-set, and whoever
    wrote looks again: it either sees the withdrawal, or wrote before the one who withdrew looked.
    """

    def __init__(
        self, apps: AppStore, secrets: SecretStore, grants: GrantStore, clock: Clock = utcnow
    ) -> None:
        self._apps = apps
        self._secrets = secrets
        self._grants = grants
        self._clock = clock

    async def publish(self, slugs: Iterable[str]) -> dict[str, GrantOutcome]:
        """Bring the rows of these apps up to what registry and secrets say now.

        A row is written only if it differs; it is removed if its app is not active or has no
        secret. An app whose registration or secret is damaged keeps its row, without the scopes
        that it may not have any more. Its epoch grows with every write.

        Returns
        -------
        dict
            The outcome of each active app, by slug.

        Raises
        ------
        VersionConflict
            If the rows change faster than they can be read.
        """
        wanted = sorted(set(slugs))
        changed: set[str] = set()
        for _ in range(MAX_ATTEMPTS):
            plans = await self._plan(wanted)
            differing = [plan for plan in plans if plan.differs]
            if not differing:
                return {
                    plan.slug: dataclasses.replace(plan.outcome, changed=plan.slug in changed)
                    for plan in plans
                    if plan.outcome is not None
                }
            for plan in differing:
                if await self._apply(plan):
                    changed.add(plan.slug)
        raise VersionConflict("Grants change faster than they can be published; try again")

    async def get(self, slug: str) -> GrantOutcome | None:
        """Say what an app would be granted now, without writing, or None if it is not active."""
        (plan,) = await self._plan([slug])
        return plan.outcome

    async def _apply(self, plan: _Plan) -> bool:
        """Write a row; False if somebody else wrote it first."""
        if plan.wanted is None:
            await self._grants.remove(plan.slug)
            return True
        try:
            await self._grants.write(plan.wanted, over=plan.found)
        except VersionConflict:
            return False
        return True

    async def _plan(self, slugs: Collection[str]) -> list[_Plan]:
        found = await self._grants.get_many(slugs)  # before what they follow from: see Notes
        secrets = await self._secrets.get_many(slugs)
        apps = {app_key(app.slug): app for app in await self._apps.get_many(slugs)}
        named = {
            scope for app in apps.values() for scope in app.spec.read_scopes if scope != app.slug
        }
        if named:
            apps |= {app_key(app.slug): app for app in await self._apps.get_many(named)}
        now = self._clock()
        plans = []
        for slug in slugs:
            key = app_key(slug)
            row, app = found.get(key), apps.get(key)
            if app is None and await _is_damaged(self._apps.get(slug)):
                # Whether others still consent cannot be said.
                plans.append(_Plan(slug, None, row, _narrowed(row, {slug})))
                continue
            if app is None or not app.active:
                plans.append(_Plan(slug, None, row, None))
                continue
            granted, denied = resolve(app, apps)
            grant = _grant(app, granted, secrets.get(key), row, now)
            if key not in secrets and await _is_damaged(self._secrets.get(slug)):
                grant = _narrowed(row, granted)
            epoch = grant.epoch if grant else 0
            outcome = GrantOutcome(app.slug, granted, denied, epoch, changed=False)
            plans.append(_Plan(slug, outcome, row, grant))
        return plans


async def _is_damaged(reading: Awaitable[object]) -> bool:
    try:
        await reading
    except RowDamaged:
        return True
    return False


def _narrowed(found: Grant | None, scopes: Collection[str]) -> Grant | None:
    """Return a row as it is, but for scopes that its app must not have any more."""
    if found is None or found.read_scopes <= set(scopes):
        return found
    kept = found.read_scopes & set(scopes)
    return dataclasses.replace(found, read_scopes=kept, epoch=found.epoch + 1)


def _grant(
    app: AppRecord,
    granted: Collection[str],
    secret: SecretRecord | None,
    found: Grant | None,
    now: datetime,
) -> Grant | None:
    """Return the row that an app should have: the one it has, if that says the same."""
    if secret is None or secret.incarnation != app.incarnation:
        return None
    grant = Grant(
        slug=app.slug,
        verifiers=tuple(
            Verifier(version.verifier, version.version, version.expires_at)
            for version in secret.versions
            if version.expires_at is None or version.expires_at > now
        ),
        read_scopes=frozenset(granted),
        write_scope=app.slug,
        collections=frozenset(app.spec.collection_names),
        epoch=found.epoch if found else app.epoch_floor,
        stamped=app.stamped,
    )
    return grant if grant == found else dataclasses.replace(grant, epoch=grant.epoch + 1)
