"""Bring a database of the earlier version of the library over, or put it back as it was."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

import yaml

from mdb_engine.constants import MASTER_KEY_VARIABLE
from mdb_engine.core.keyring import decode_key
from mdb_engine.exceptions import MasterKeyError
from mdb_engine.models.mdbapp import mdbapp_document, mdbapp_name
from mdb_engine.models.spec import MdbAppSpec
from mdb_engine.registry.registry import Registry
from mdb_operator.exceptions import OperatorError

__all__ = ["migrate_from_legacy", "read_old_key", "undo_migration"]

# kubectl reads YAML 1.1, to which these are true and false: a field may be called so.
yaml.SafeDumper.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN")
)

Tell = Callable[[str], Any]


def read_old_key(file: str | None) -> bytes | None:
    """Return the old master key: from a file, from stdin (``-``), or from the environment.

    A line of an ``.env`` file is taken as well. None where there is no key at all.

    Raises
    ------
    MasterKeyError
        If it cannot be read, or is no key; the message holds nothing of it.
    """
    try:
        if file is None:
            text = os.environ.get(MASTER_KEY_VARIABLE, "")
        elif file == "-":
            text = sys.stdin.read()
        else:
            with open(file, encoding="ascii") as stream:  # noqa: PTH123 - a name as it was given
                text = stream.read()
    except OSError as error:
        raise MasterKeyError(f"Master key not found: {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MasterKeyError("The old master key is not valid base64") from None
    lines = [line.strip() for line in text.splitlines()]
    named = [one for one in lines if one.startswith(f"{MASTER_KEY_VARIABLE}=")]
    key = (named or lines or [""])[0].removeprefix(f"{MASTER_KEY_VARIABLE}=").strip("\"' ")
    return decode_key(key, "of the earlier version") if key else None


async def migrate_from_legacy(
    registry: Registry,
    *,
    key: bytes | None,
    namespace: str,
    overlap: int,
    leave_out: Collection[str],
    dry_run: bool,
    show: Tell,
    tell: Tell,
) -> None:
    """Migrate, and show the MdbApps that are to be applied.

    Parameters
    ----------
    registry
        Of the database.
    key, namespace, overlap, leave_out
        As `LegacyService.plan` and `LegacyService.migrate` take them.
    dry_run
        Write nothing.
    show
        Is given the MdbApps, in YAML.
    tell
        Is told what was met, a line at a time.

    Raises
    ------
    OperatorError
        If something stands against it: then nothing was written.
    """
    plan = await registry.legacy.plan(key, leave_out=leave_out)
    for app in plan.apps:
        for note in app.notes:
            tell(f"{app.slug}: {note}")
    if plan.problems:
        raise OperatorError(
            "Nothing was written:\n  "
            + "\n  ".join(plan.problems)
            + "\nMend that, or leave the app out with --leave-out SLUG."
        )
    specs, done = [app.spec for app in plan.apps], dict[str, str]()
    if not dry_run:
        await registry.legacy.migrate(plan, namespace=namespace, overlap=overlap)
        waiting = await registry.legacy.waiting()
        specs = [app.spec for app in waiting]
        done = {app.slug: app.owner.namespace for app in waiting}
    if not specs and not plan.rows:
        tell("There is nothing of the earlier version in this database")
        return
    show(_documents(specs, done, namespace))
    what = "would be brought over" if dry_run else "wait for their MdbApps"
    tell(f"{len(specs)} apps {what}; apply what is printed to stdout")
    if not dry_run and plan.rows:
        tell(f"The old tokens work for {overlap} s from now. To go back: --undo")


async def undo_migration(registry: Registry, *, dry_run: bool, tell: Tell) -> None:
    """Put everything back as the earlier version had it.

    Raises
    ------
    OperatorError
        If something stands against it: then nothing was written.
    """
    slugs, problems = await registry.legacy.undo(dry_run=dry_run)
    if problems:
        raise OperatorError("Nothing was written:\n  " + "\n  ".join(problems))
    if not slugs:
        tell("Nothing was migrated, so there is nothing to undo")
        return
    tell(f"{'Would be' if dry_run else 'Were'} put back: {', '.join(slugs)}")


def _documents(specs: Iterable[MdbAppSpec], done: dict[str, str], namespace: str) -> str:
    used: Counter[str] = Counter()
    documents = []
    for spec in specs:
        name = mdbapp_name(spec.slug)
        used[name] += 1
        name += f"-{used[name]}" if used[name] > 1 else ""  # of slugs that end in a dash
        documents.append(mdbapp_document(spec.dump(), name, done.get(spec.slug, namespace)))
    return yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True)
