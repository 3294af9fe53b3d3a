"""Every link within the repository leads somewhere."""

from __future__ import annotations

import pytest
from unit.docs.pages import PAGES, ROOT, anchors, links


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings_that_exist(page: str) -> None:
    here = (ROOT / page).parent
    dead = []
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (here / path).resolve() if path else ROOT / page
        if not (target.exists() and (not anchor or anchor in anchors(target))):
            dead.append(link)
    assert dead == []
