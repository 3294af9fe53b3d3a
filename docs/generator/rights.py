"""The tables of what an app may do in MongoDB, from the files that the probe is held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["COLLECTION_COLUMNS", "DATABASE_COLUMNS", "rights_rows"]

PROBE: Final = Path(__file__).resolve().parents[2] / "tests/integration/isolation"

COLLECTION_COLUMNS: Final = {
    "own": "own",
    "granted": "granted",
    "foreign": "foreign",
    "registrations": "`apps_config`",
    "secrets": "`_mdb_engine_app_secrets`",
    "grants": "`_mdb_engine_grants`",
    "audit": "`_mdb_engine_audit`",
    "installation": "`_mdb_engine_installation`",
    "other": "other database",
    "admin": "`admin`",
}
"""What a command is aimed at, by its name in the probe."""

DATABASE_COLUMNS: Final = {
    "apps": "the apps' database",
    "other": "other database",
    "admin": "`admin`",
}
"""The databases that a command is sent to, by their names in the probe."""


def rights_rows(file: str, columns: Mapping[str, str]) -> list[list[str]]:
    """Return the rows of a table: the command, then a cell for each column."""
    commands: list[dict[str, Any]] = json.loads((PROBE / file).read_text(encoding="utf-8"))
    return [
        [f"`{command['name']}`", *(_cell(command, column, columns) for column in columns)]
        for command in commands
    ]


def _cell(command: Mapping[str, Any], column: str, columns: Mapping[str, str]) -> str:
    one_database = columns is DATABASE_COLUMNS and "database" in command
    if column in command.get("except", ()) or (one_database and column != command["database"]):
        return ""
    if column in command["allowed"]:
        return "yes"
    return _REFUSALS.get(command.get("refused", {}).get(column), "-")


_REFUSALS: Final = {121: "validator", 48: "exists"}
"""What stands against a command that the role allows, by MongoDB's code."""
