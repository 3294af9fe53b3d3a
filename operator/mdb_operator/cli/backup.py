"""Try a backup before it is needed: the master key has to open what is sealed in a copy.

Wherever the copy is: neither a cluster nor the operator's settings are needed, and a user who may
only read is enough.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from mdb_engine.connection.driver import get_driver
from mdb_engine.connection.pool import Connections, ConnectionSettings
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.key_manager import KeyManager
from mdb_engine.core.keyring import Keyring
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.key_managers import open_key_managers
from mdb_engine.key_managers.choice import is_uri
from mdb_engine.registry.backup import verify_secrets
from mdb_operator.exceptions import OperatorError

__all__ = ["read_keyring", "verify_backup"]


def read_keyring(text: str) -> KeyManager:
    """Return the keys that a backup of them holds.

    Parameters
    ----------
    text
        A file with a Secret (``kubectl get secret -o yaml``), a directory with one file a key, or
        the URI of a key manager.

    Raises
    ------
    MasterKeyError
        If it is none of these, or malformed; the message holds nothing of it.
    """
    path = Path(text)
    if is_uri(text):
        return open_key_managers(text)
    if path.is_dir():
        return Keyring.from_directory(path)
    try:
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = {
            str(name): base64.b64decode(value, validate=True).decode("ascii")
            for name, value in manifest["data"].items()
        }
    except OSError as error:
        raise MasterKeyError(f"Master key not found: {path}: {error.strerror}") from None
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError, binascii.Error):
        raise MasterKeyError(
            f"{path} is no Secret with a keyring in its data; save it with "
            "`kubectl get secret NAME -o yaml`"
        ) from None
    return Keyring.from_files(entries)


async def verify_backup(keyring: str, uri: str, database: str, tell: Callable[[str], Any]) -> None:
    """Open everything that is sealed in a database, and say what opened and what did not.

    Raises
    ------
    OperatorError
        If anything did not open, or is missing.
    """
    keys = read_keyring(keyring)
    connections = Connections(get_driver("pymongo"))
    try:
        await connections.open(ConnectionSettings(SecretStr(uri), database))
        found = await verify_secrets(connections.database(), EnvelopeEncryptionService(keys))
    finally:
        await connections.close()
        await keys.aclose()
    for key_id, count in sorted(found.opened.items()):
        tell(f"Master key {key_id} opens {count} versions")
    for problem in found.problems:
        tell(f"PROBLEM: {problem}")
    if not found.apps:
        raise OperatorError(f"database {database!r} holds no app's secret: is it the right one?")
    if found.problems:
        raise OperatorError(
            f"{len(found.problems)} problems in the secrets of {found.apps} apps: a restore of "
            "this copy with this keyring would not give back all of them"
        )
    tell(f"All secrets of {found.apps} apps open; nothing was written")
