"""The sources of a release: a commit's files, with the version written into a copy of them.

The checkout keeps one version for ever (0.1.0 in all files), so that no commit need be made for a
release; a tag names the version. In the copy our distributions also need one another in the very
same version, since they are only tested so.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

import click

from mdb_release.commands import ROOT, run

DISTRIBUTIONS = {
    "mdbapp-engine": "engine",
    "mdbapp-operator": "operator",
    "kubectl-mdb": "kubectl-mdb",
}
"""What goes to a package index, and its directory."""

CHART = Path("charts") / "mdb-operator"

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)((a|b|rc)(0|[1-9]\d*))?")


@dataclass(frozen=True, slots=True)
class Source:
    """A commit's files, with a version.

    Parameters
    ----------
    directory
        Where they are.
    version
        As Python writes it (PEP 440): ``1.2.3``, ``1.2.3rc1``.
    commit
        Its full hash.
    epoch
        When it was made, in seconds since 1970: the date of everything in the release.
    """

    directory: Path
    version: str
    commit: str
    epoch: int

    @property
    def chart_version(self) -> str:
        """The version as Helm and image tags have it (SemVer 2): ``1.2.3-rc.1``."""
        return re.sub(r"(a|b|rc)(\d+)$", r"-\1.\2", self.version)


def unpack(version: str, directory: Path, checkout: Path = ROOT) -> Source:
    """Write the files of HEAD to a directory, with the version in them.

    Parameters
    ----------
    version
        As Python writes it, or as SemVer does.
    directory
        An empty one.
    checkout
        Whose HEAD.

    Raises
    ------
    click.ClickException
        If the version is malformed, or the checkout has changes that a release would not have.
    """
    version = re.sub(r"-(a|b|rc)\.(\d+)$", r"\1\2", version)
    if not _VERSION.fullmatch(version):
        raise click.ClickException(f"{version!r} is no version: say 1.2.3, or 1.2.3rc1.")
    changes = run("git", "status", "--porcelain", directory=checkout)
    if changes:
        raise click.ClickException(
            f"The checkout has changes, which a release would not have; commit them:\n{changes}"
        )
    archive = directory.parent / "source.tar"
    run("git", "archive", "--format=tar", f"--output={archive}", "HEAD", directory=checkout)
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
        tar.extractall(directory, filter="data")
    archive.unlink()
    commit, epoch = run("git", "log", "-1", "--format=%H %ct", directory=checkout).split()
    source = Source(directory, version, commit, int(epoch))
    _write_version(source)
    return source


def _write_version(source: Source) -> None:
    for folder in DISTRIBUTIONS.values():
        path = source.directory / folder / "pyproject.toml"
        text = path.read_text(encoding="utf-8")
        text, versions = re.subn(
            r'^version = ".*"$', f'version = "{source.version}"', text, flags=re.MULTILINE
        )
        text = re.sub(
            r'"(mdbapp-engine(?:\[[a-z,-]+\])?)"(?=[],])',  # a requirement, not the name
            rf'"\1=={source.version}"',
            text,
            flags=re.MULTILINE,
        )
        if versions != 1:
            raise click.ClickException(f'{path}: there is no line `version = "..."`.')
        path.write_text(text, encoding="utf-8")
        shutil.copy2(source.directory / "LICENSE", source.directory / folder)
