"""Debian's packages, from machines whose package lists are empty, old or partly out of reach."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from devcluster import base_image, packages
from devcluster.engine import own
from devcluster.errors import DevclusterError
from devcluster.packages import Requirement
from devcluster.progress import Progress

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(120, func_only=True),
    pytest.mark.root,
    pytest.mark.skipif(bool(own.why_not()), reason=f"NOT TESTED: {own.why_not()}"),
]


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give apt no package lists, this machine's sources and one that is gone; it only downloads."""
    lists, archives, parts = (tmp_path / name for name in ("lists", "archives", "parts"))
    shutil.copytree("/etc/apt/sources.list.d", parts)
    (parts / "gone.list").write_text("deb [trusted=yes] file:/nowhere bookworm main\n")
    for directory in (lists, archives):
        (directory / "partial").mkdir(parents=True)
    (tmp_path / "apt.conf").write_text(
        f'Dir::State::lists "{lists}";\n'
        f'Dir::Cache "{tmp_path}";\n'
        f'Dir::Cache::archives "{archives}";\n'
        f'Dir::Etc::sourceparts "{parts}";\n'
        'APT::Get::Download-Only "true";\n'
        'APT::Sandbox::User "root";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    return archives


def test_lists_are_updated_where_a_package_cannot_be_located_and_all_of_ours_are_found(
    apt: Path,
) -> None:
    said = io.StringIO()

    with pytest.raises(DevclusterError, match="lacks hello"):  # as it is only downloaded
        packages.require([Requirement("hello", ("not-in-hello",))], Progress(said))

    assert list(apt.glob("hello_*.deb"))
    assert "Unable to locate package" in said.getvalue()
    assert "Updating apt's package lists" in said.getvalue()

    # The lists are there now, as the machine's own may not be.
    asked = {each.package for each in (*packages.NODE, *own.REQUIREMENTS, *base_image.TOOLS)}
    known = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", *sorted(asked)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert known.returncode == 0, f"no package of Debian's: {known.stderr}"
