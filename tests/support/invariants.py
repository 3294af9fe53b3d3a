"""What has to be so of an installation whenever its operator is at rest, whatever happened before.

`violations` computes from the MdbApps alone who may read what, and holds MongoDB, the Secrets and
the statuses against it. It uses every credential that a `Ledger` has ever seen handed out, as a
thief would, and looks for their values where none may be.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from bson import json_util

from mdb_engine.connection.driver import get_driver
from mdb_engine.constants import (
    APPS_COLLECTION,
    AUDIT_COLLECTION,
    GRANTS_COLLECTION,
    SECRETS_COLLECTION,
)
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.core.secret import Credentials, RevealedSecrets
from mdb_engine.exceptions import MdbEngineError
from mdb_engine.registry.models.privileges import ROLE_PREFIX, role_name, user_name
from mdb_engine.registry.registry import Registry
from mdb_operator.constants import LABEL_OWNER_UID, SECRET_TYPE
from support.credentials import opens, reach
from support.installation import SCANNED_KINDS, SECRET_ENTRIES, Installation, _needles, is_ready
from support.leakscan import SHORTEST
from support.waiting import wait_until

__all__ = ["Ledger", "data_of", "ending", "settled", "violations"]

Entries = dict[str, str]

AT_ONCE = 4
"""How many credentials are tried at once."""

STRANGERS = 10
"""How many apps that it may not read each credential is tried on, where there are more."""


@dataclass
class Ledger:
    """Every Secret of every app, as it was whenever somebody looked: what was ever handed out."""

    issued: dict[tuple[str, str, str], Entries] = field(default_factory=dict, repr=False)

    def collect(self, here: Installation) -> None:
        """Keep what the Secrets hold at this moment."""
        for _, secret in _secrets(here):
            data = secret.get("data") or {}
            entries = {key: base64.b64decode(text).decode() for key, text in data.items()}
            if entries.get("app-secret"):
                key = (entries["app-slug"], entries["secret-version"], entries["app-secret"])
                self.issued[key] = entries

    def __len__(self) -> int:
        return len(self.issued)


def data_of(here: Installation, *slugs: str) -> dict[str, list[str]]:
    """Return all documents of apps' collections, by physical name."""
    return {
        name: sorted(json_util.dumps(one, sort_keys=True) for one in here.mongo[name].find())
        for name in sorted(here.mongo.list_collection_names())
        if any(name.startswith(f"{slug}_") for slug in slugs)
    }


def settled(
    here: Installation,
    ledger: Ledger,
    data: Mapping[str, list[str]] | None = None,
    deadline: float = 60,
) -> float:
    """Wait until everything holds; return after how many seconds it did."""
    began, found = time.monotonic(), [""]

    def holds() -> bool:
        found[:] = violations(here, ledger, data or {})
        return not found

    wait_until(holds, deadline=deadline, message=lambda: "; ".join(found))
    return time.monotonic() - began


def ending(here: Installation) -> list[str]:
    """Return the apps whose Secret holds a version that ends, or that pods do not accept.

    It has to be empty at every moment, however dead the operator: it may be away for longer than
    any overlap, and then whoever mounts the Secret would be refused.
    """
    found = []
    for _, secret in _secrets(here):
        data = {k: base64.b64decode(v).decode() for k, v in (secret.get("data") or {}).items()}
        row = here.mongo[GRANTS_COLLECTION].find_one({"slug": data.get("app-slug")})
        if row is None or not data.get("app-secret"):
            continue
        number = int(data["secret-version"])
        held = [one for one in row["verifiers"] if one["version"] == number]
        if not held or held[0]["not_after"] is not None:
            found.append(f"{row['slug']}: version {number} is mounted, and accepted: {held != []}")
    return found


def violations(
    here: Installation, ledger: Ledger, data: Mapping[str, list[str]] | None = None
) -> list[str]:
    """Return what is not as it has to be, each in a sentence without secrets.

    Parameters
    ----------
    here
        An installation with ``isolation: database`` whose apps are all meant to be ready.
    ledger
        What was handed out before; what is handed out now is added.
    data
        Documents by physical collection, as `data_of` gave them, that nobody may have touched.
    """
    ledger.collect(here)
    world = _World.observe(here)
    return [
        *world.of_apps(),
        *world.of_strangers(),
        *world.of_credentials(ledger),
        *_leaks(here, ledger),
        *_changed_data(here, data or {}),
    ]


@dataclass
class _World:
    """The installation at one moment."""

    here: Installation
    apps: dict[str, dict[str, Any]]  # MdbApps by slug
    secrets: dict[tuple[str, str], dict[str, Any]]  # by namespace and name
    opened: dict[str, RevealedSecrets]  # the sealed rows, by slug
    unopened: list[str]
    grants: dict[str, dict[str, Any]]
    users: dict[str, set[str]]  # names, by slug
    roles: dict[str, dict[str, set[str]]]  # by slug: actions by collection

    @classmethod
    def observe(cls, here: Installation) -> _World:
        apps = [one for where in here.watched for one in here.cluster.api.objects("MdbApp", where)]
        opened, unopened = _opened(here)
        users: dict[str, set[str]] = {}
        for user in here.mongo.command("usersInfo", 1)["users"]:
            slug = (user.get("customData") or {}).get("slug")
            if slug is not None:
                users.setdefault(slug, set()).add(user["user"])
        roles: dict[str, dict[str, set[str]]] = {}
        for role in here.mongo.command("rolesInfo", 1, showPrivileges=True)["roles"]:
            if role["role"].startswith(ROLE_PREFIX):
                rights = roles.setdefault(role["role"].removeprefix(ROLE_PREFIX), {})
                for one in role["privileges"]:
                    rights.setdefault(one["resource"]["collection"], set()).update(one["actions"])
        return cls(
            here,
            {app["spec"]["slug"]: app for app in apps},
            dict(_secrets(here)),
            opened,
            unopened,
            {row["slug"]: row for row in here.mongo[GRANTS_COLLECTION].find()},
            users,
            roles,
        )

    def valid(self, slug: str) -> dict[str, Credentials]:
        """Return the versions that may work now, by number."""
        opened = self.opened.get(slug)
        if slug not in self.apps or opened is None:
            return {}
        return {str(one.version): one for one in (opened.current, *opened.earlier)}

    def collections(self, slug: str) -> set[str]:
        """Return the physical names of what an app declares."""
        declared = self.apps[slug]["spec"].get("collections") or []
        return {f"{slug}_{one['name']}" for one in declared}

    def may_read(self, slug: str, owner: str) -> bool:
        """Say, by the two MdbApps alone, whether one may read the other's data."""
        reader, other = self.apps.get(slug), self.apps.get(owner)
        if reader is None or other is None or slug == owner:
            return reader is not None and other is not None
        mine, theirs = (one["spec"].get("dataAccess") or {} for one in (reader, other))
        if "DenyAll" in {mine.get("crossAppPolicy"), theirs.get("crossAppPolicy")}:
            return False
        namespace = reader["metadata"]["namespace"]
        return owner in (mine.get("readScopes") or ()) and (
            namespace == other["metadata"]["namespace"]
            or any(
                one["namespace"] in {"*", namespace} and one.get("slug", slug) == slug
                for one in theirs.get("readers") or ()
            )
        )

    def of_apps(self) -> Iterator[str]:
        yield from self.unopened
        for slug in self.apps:
            for problem in (*self._of_status(slug), *self._of_secret(slug), *self._of_mongo(slug)):
                yield f"{slug}: {problem}"

    def _of_status(self, slug: str) -> Iterator[str]:
        app = self.apps[slug]
        status = app.get("status") or {}
        if "deletionTimestamp" in app["metadata"]:
            yield "is still being deleted"
        elif not is_ready(status):
            yield f"is not ready: {status.get('conditions')}"
        elif status.get("observedGeneration") != app["metadata"]["generation"]:
            yield "has a status of an earlier generation"
        opened = self.opened.get(slug)
        if opened is None:
            yield "has no sealed secret"
        elif (status.get("secret") or {}).get("version") != opened.version:
            yield f"its status names another version than {opened.version}"
        granted = sorted(other for other in self.apps if self.may_read(slug, other))
        if sorted(status.get("grantedScopes") or ()) != granted:
            yield f"its status grants {status.get('grantedScopes')}, and it may read {granted}"

    def _of_secret(self, slug: str) -> Iterator[str]:
        app, opened = self.apps[slug], self.opened.get(slug)
        metadata = app["metadata"]
        name = (app["spec"].get("secret") or {}).get("name") or f"{metadata['name']}-mdb"
        bound = ((app.get("status") or {}).get("binding") or {}).get("name")
        if bound != name:
            yield f"its status binds {bound}"
        mine = [
            key
            for key, one in self.secrets.items()
            if one["metadata"].get("labels", {}).get(LABEL_OWNER_UID) == metadata["uid"]
        ]
        if mine != [(metadata["namespace"], name)]:
            yield f"its Secrets are {mine}"
            return
        data = {
            key: base64.b64decode(text).decode()
            for key, text in self.secrets[mine[0]]["data"].items()
        }
        if opened is None:
            return
        current = opened.current
        wanted = {
            "app-slug": slug,
            "secret-version": str(current.version),
            "username": user_name(slug, current.version),
            "password": current.database_password.get_secret_value(),
            "app-secret": current.token.get_secret_value(),
            "session-key": current.session_key.get_secret_value(),
        }
        if different := sorted(key for key, value in wanted.items() if data.get(key) != value):
            yield f"its Secret differs from the sealed row in {different}"
        elif not opens(data["uri"]):
            yield "its Secret does not open MongoDB"

    def _of_mongo(self, slug: str) -> Iterator[str]:
        valid, row = self.valid(slug), self.grants.get(slug)
        if self.users.get(slug, set()) != {user_name(slug, int(one)) for one in valid}:
            yield f"its users are {sorted(self.users.get(slug, ()))}, its versions {sorted(valid)}"
        if row is None:
            yield "has no grants"
            return
        accepted = {bytes(one["sha256"]): one["not_after"] for one in row["verifiers"]}
        if set(accepted) != {_digest(one) for one in valid.values()}:
            yield "its verifiers are not those of its versions"
        if list(accepted.values()).count(None) != 1:
            yield f"has {list(accepted.values()).count(None)} current versions"
        readable = {other for other in self.apps if self.may_read(slug, other)}
        if set(row["read_scopes"]) != readable or row["write_scope"] != slug:
            yield f"is granted {row['read_scopes']}, and may read {sorted(readable)}"
        own = self.collections(slug)
        if {f"{slug}_{name}" for name in row["collections"]} != own:
            yield f"its grants name the collections {row['collections']}"
        rights = self.roles.get(slug, {})
        found = {name for name, actions in rights.items() if "find" in actions}
        theirs = {name for other in readable for name in self.collections(other)}
        if found != own | theirs | {GRANTS_COLLECTION}:
            yield f"its role may find {sorted(found)}"
        written = {name for name, actions in rights.items() if actions & {"insert", "update"}}
        if written != own | {AUDIT_COLLECTION}:
            yield f"its role may write {sorted(written)}"

    def of_strangers(self) -> Iterator[str]:
        """Name what belongs to no app that there is."""
        uids = {app["metadata"]["uid"] for app in self.apps.values()}
        rows = self.here.mongo[APPS_COLLECTION].find({"state": "active"})
        for row in rows:
            if row["owner"]["uid"] not in uids:
                yield f"{row['slug']}: is registered and has no MdbApp"
        for kind, slugs in (
            ("grants", self.grants),
            ("users", self.users),
            (f"a role like {role_name('x')}", self.roles),
            ("a sealed secret", self.here.mongo[SECRETS_COLLECTION].distinct("slug")),
        ):
            for slug in slugs:
                if slug not in self.apps:
                    yield f"{slug}: has {kind} and no MdbApp"
        for key, secret in self.secrets.items():
            if secret["metadata"].get("labels", {}).get(LABEL_OWNER_UID) not in uids:
                yield f"Secret {key} is of no MdbApp"

    def of_credentials(self, ledger: Ledger) -> Iterator[str]:
        """Use all that were ever handed out: each opens what it should now, and nothing more."""
        with ThreadPoolExecutor(AT_ONCE) as pool:  # most of the time is MongoDB's
            for found in pool.map(self._of_credential, *zip(*ledger.issued.items(), strict=True)):
                yield from found

    def _of_credential(self, key: tuple[str, str, str], entries: Entries) -> list[str]:
        slug, version, token = key
        found = []
        valid = self.valid(slug).get(version)
        good = valid is not None and valid.token.get_secret_value() == token
        what = f"{slug}: version {version} that was handed out"
        readable = {other for other in self.apps if good and self.may_read(slug, other)}
        others = sorted(
            set(self.apps) - readable, key=lambda one: hashlib.sha256(one.encode()).digest()
        )
        tried = {*readable, *others[:STRANGERS], *([slug] if slug in self.apps else [])}
        reached = reach(entries["uri"], (n for one in tried for n in self.collections(one)))
        if (reached is not None) != good:
            found.append(f"{what} {'does not open' if good else 'opens'} MongoDB")
        wanted = {name for one in readable for name in self.collections(one)}
        if reached is not None and reached != wanted:
            found.append(f"{what} reads {sorted(reached)}, and should {sorted(wanted)}")
        row = self.grants.get(slug) or {"verifiers": ()}
        digest = hashlib.sha256(token.encode()).digest()
        if (digest in {bytes(one["sha256"]) for one in row["verifiers"]}) != good:
            found.append(f"{what} is {'refused' if good else 'accepted'} by pods")
        return found


def _digest(version: Credentials) -> bytes:
    return hashlib.sha256(version.token.get_secret_value().encode()).digest()


def _secrets(here: Installation) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for namespace in here.watched:
        for secret in here.cluster.api.objects("Secret", namespace):
            if secret.get("type") == SECRET_TYPE:
                yield (namespace, secret["metadata"]["name"]), secret


def _opened(here: Installation) -> tuple[dict[str, RevealedSecrets], list[str]]:
    """Open the sealed rows with the keyring that there is; also say which do not open."""

    async def work() -> tuple[dict[str, RevealedSecrets], list[str]]:
        driver = get_driver("pymongo")
        client = driver.connect(here.server.uri)
        encryption = EnvelopeEncryptionService(here.keyring())
        registry = Registry(client[here.database], driver, encryption)
        opened: dict[str, RevealedSecrets] = {}
        problems: list[str] = []
        try:
            for slug in here.mongo[SECRETS_COLLECTION].distinct("slug"):
                try:
                    opened[slug] = await registry.secrets.reveal(slug)
                except MdbEngineError as error:
                    problems.append(error.message)
        finally:
            await driver.close(client)
        return opened, problems

    with ThreadPoolExecutor(1) as pool:  # the caller may be in a loop
        return pool.submit(asyncio.run, work()).result()


def _leaks(here: Installation, ledger: Ledger) -> Iterator[str]:
    needles: dict[str, str] = {}
    for (slug, version, _), entries in ledger.issued.items():
        for key in SECRET_ENTRIES:
            if entries.get(key):
                label = f"{key} of {slug}, version {version}"
                needles |= _needles(entries[key].encode(), label)
    keyring = here.keyring()
    for key_id in keyring.ids:
        needles |= _needles(keyring.key(key_id), f"master key {key_id}")
    texts = {
        f"{kind} in {namespace}": json.dumps(here.cluster.api.objects(kind, namespace))
        for namespace in (*here.watched, here.namespace)
        for kind in SCANNED_KINDS
    }
    for process in here.processes:
        texts[process.output.name] = log = process.text()
        if process.popen.poll() is None and "Serving /healthz" in log:
            with suppress(httpx.TransportError):  # it may be killed at any moment
                texts[f"/metrics of {process.output.name}"] = here.ask(process, "/metrics").text
    starts: dict[str, list[str]] = {}
    for needle in needles:
        starts.setdefault(needle[:SHORTEST], []).append(needle)
    for where, text in texts.items():
        # Looked up by how they start: thousands of secrets are not searched for one by one.
        parts = {text[at : at + SHORTEST] for at in range(len(text))}
        met = [needle for start in parts & starts.keys() for needle in starts[start]]
        for label in {needles[needle] for needle in met if needle in text}:
            yield f"{where} holds {label}"


def _changed_data(here: Installation, data: Mapping[str, list[str]]) -> Iterator[str]:
    for name, documents in data.items():
        found = [json_util.dumps(one, sort_keys=True) for one in here.mongo[name].find()]
        if sorted(found) != documents:
            yield f"the data of {name} were changed"
