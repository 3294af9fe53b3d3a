"""Look for known vulnerabilities in what the products need, in the locked versions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx

from mdb_release.commands import ROOT, run, uv
from mdb_release.source import DISTRIBUTIONS

OSV = "the OSV database"
_SECONDS = 30.0
_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known.

    Parameters
    ----------
    source
        Who said so, and when.
    found
        Known vulnerabilities, one a line.
    unknown
        What nobody was found to know about, one dependency a line.
    """

    source: str
    found: list[str]
    unknown: list[str]


def audit() -> Answer:
    """Ask about every locked dependency: the OSV database, or the package index without it.

    Raises
    ------
    ConnectionError
        If neither can be asked: nothing is known then.
    """
    packages = [part for name in DISTRIBUTIONS for part in ("--package", name)]
    locked = run(
        uv(), "export", "--quiet", "--frozen", "--no-dev", "--all-extras", "--no-emit-workspace",
        *packages,
    )  # fmt: skip
    try:
        return ask_osv(locked)
    except ConnectionError as error:
        lock = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
        indexes = {one["name"]: one["source"].get("registry") for one in lock}
        versions = dict(re.findall(r"^([^\s=]+)==([^\s;]+)", locked, re.MULTILINE))
        try:
            return ask_index({(name, versions[name]): indexes[name] for name in versions})
        except httpx.HTTPError as other:
            raise ConnectionError(f"{error}; nor does the package index answer: {other}") from None


def ask_osv(locked: str) -> Answer:
    """Ask the OSV database with pip-audit.

    Parameters
    ----------
    locked
        Requirements with their hashes.

    Raises
    ------
    ConnectionError
        If it cannot be asked.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(locked)
        file.flush()
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", "--requirement", file.name, "--disable-pip",
             "--require-hashes", "--vulnerability-service", "osv", "--strict",
             "--progress-spinner", "off", "--format", "json"],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise ConnectionError(done.stderr.strip().splitlines()[-1][:300]) from None
    found = [
        f"{one['name']} {one['version']}: {bug['id']} (mended in {bug['fix_versions']})"
        for one in dependencies
        for bug in one["vulns"]
    ]
    return Answer(OSV, found, [])


def ask_index(indexes: Mapping[tuple[str, str], str]) -> Answer:
    """Ask the package index, which passes on what OSV has; a mirror may know the newest alone.

    Parameters
    ----------
    indexes
        The URL of the index (``…/simple``) by a dependency's name and version.

    Raises
    ------
    httpx.HTTPError
        If it cannot be asked.
    """
    with httpx.Client(timeout=_SECONDS, follow_redirects=True) as client:
        ask = partial(_vulnerabilities, client)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = pool.map(ask, indexes, indexes.values())
            by_dependency = dict(zip(indexes, answers, strict=True))
    return Answer(
        f"the package index, on {datetime.now(UTC):%d %B %Y}",
        [
            f"{name} {version}: {bug['id']} (mended in {bug['fixed_in']})"
            for (name, version), bugs in by_dependency.items()
            for bug in bugs or ()
            if not bug["withdrawn"]
        ],
        [f"{name} {version}" for (name, version), bugs in by_dependency.items() if bugs is None],
    )


def _vulnerabilities(
    client: httpx.Client, dependency: tuple[str, str], index: str
) -> list[dict[str, Any]] | None:
    """Return a version's vulnerabilities; None if only those of another version are said."""
    name, version = dependency
    for page in (f"{name}/{version}", name):
        response = client.get(f"{index.removesuffix('/simple')}/pypi/{page}/json")
        if response.status_code == httpx.codes.NOT_FOUND:
            continue
        said = response.raise_for_status().json()
        if said["info"]["version"] == version and "vulnerabilities" in said:
            bugs: list[dict[str, Any]] = said["vulnerabilities"]
            return bugs
    return None
