"""Whether a copy of the database can be restored: the master key has to open all in it."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from mdb_engine.connection.control import control_view
from mdb_engine.connection.driver import RawDatabase
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.secret import Purpose, SealedVersion
from mdb_engine.exceptions import MasterKeyError, RowDamaged
from mdb_engine.models.naming import app_key
from mdb_engine.registry.models.app import AppState
from mdb_engine.registry.storage.apps import AppStore
from mdb_engine.registry.storage.secrets import SecretStore

__all__ = ["Verification", "verify_secrets"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of opening everything.

    Parameters
    ----------
    apps
        How many apps have sealed credentials.
    opened
        How many versions opened, by the id of the master key that wraps them.
    problems
        What could not be opened, or is not there, each in a sentence that holds no secret.
    """

    apps: int
    opened: Mapping[str, int]
    problems: tuple[str, ...]


async def verify_secrets(
    database: RawDatabase, encryption: EnvelopeEncryptionService
) -> Verification:
    """Open every version of every app's credentials, the ended ones too; nothing is written.

    Raises
    ------
    DatabaseUnavailable
        If MongoDB does not answer, or refuses.
    """
    view = control_view(database)
    opened: Counter[str] = Counter()
    problems: list[str] = []
    found: set[str] = set()
    apps = AppStore(view)
    async for key, record in SecretStore(view).each():
        found.add(key)
        if isinstance(record, RowDamaged):
            problems.append(record.message)
            continue
        for version in record.versions:
            try:
                await _open(encryption, record.slug, version)
            except MasterKeyError as error:
                problems.append(error.message)
            else:
                opened[version.envelope.key_id] += 1
    problems += [f"{row} cannot be read" for row in await apps.damaged()]
    for app in await apps.all():
        if app.state is AppState.ACTIVE and app_key(app.slug) not in found:
            problems.append(f"App {app.slug!r} is registered and has no sealed secret")
    return Verification(len(found), dict(opened), tuple(problems))


async def _open(encryption: EnvelopeEncryptionService, slug: str, version: SealedVersion) -> None:
    values = await encryption.unseal(version.envelope, slug=slug, version=version.version)
    token = values[Purpose.APP_SECRET].get_secret_value()
    if not hmac.compare_digest(hashlib.sha256(token.encode()).digest(), version.verifier):
        raise MasterKeyError(
            f"The secret of app {slug!r}, version {version.version}, opens and is not the one that "
            "its verifier is of: the row was changed"
        )
