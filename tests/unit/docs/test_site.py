"""The documents as a site: no link is dead, and everything can be searched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from unit.docs.pages import ROOT

BIN = Path(sys.executable).parent

ADDRESS = "https://example.com/mdb"


def build(directory: Path) -> str:
    done = subprocess.run(
        [BIN / "mkdocs", "build", "--strict", "--quiet", "--site-dir", directory],
        cwd=ROOT,
        env={
            **os.environ,
            "SITE_REPOSITORY": ADDRESS,
            "NO_MKDOCS_2_WARNING": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the built site; strict: a dead link or heading fails the build."""
    directory = tmp_path_factory.mktemp("site")
    assert build(directory) == ""
    return directory


def test_every_page_is_there_and_can_be_searched(site: Path) -> None:
    found = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    pages = {one["location"].partition("#")[0] for one in found}
    documents = {f"{path.stem}/" for path in (ROOT / "docs").glob("*.md")} - {"index/"}
    around = {"changes/", "contributing/", "reporting/"}
    examples = {f"examples/{name}-app/" for name in ("simple", "multi", "node")}
    assert documents | around | {""} | examples == pages
    assert any("tombstone" in one["text"] for one in found)


def test_the_landing_page_has_the_pictures_and_loads_nothing_from_elsewhere(site: Path) -> None:
    page = (site / "index.html").read_text()
    for picture in re.findall(r'<img[^>]+src="([^"]+)"', page):
        assert (site / picture).is_file()
    assert page.count("<img ") == 2
    loaded = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(?:https?:)?//[^"]+', page)
    assert loaded == []


def test_links_out_of_the_documents_lead_to_a_page_or_to_the_repository(site: Path) -> None:
    example = (site / "examples" / "multi-app" / "index.html").read_text()
    assert f'href="{ADDRESS}/blob/HEAD/examples/multi_app/k8s"' in example
    assert 'href="../../library/#authorisation"' in example
    assert 'href="../security/"' in (site / "reporting" / "index.html").read_text()
