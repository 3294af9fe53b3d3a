"""What a page says holds a promise is a test that there is; every line of security has one."""

from __future__ import annotations

import re

import pytest
from unit.docs.pages import PAGES, ROOT, read

TESTS = ROOT / "tests"
NAME = re.compile(r"`(?:tests/[a-z/_]+/)?(test_[a-z0-9_]+)(?:\.py)?`")


def known_tests() -> set[str]:
    files = [path for path in TESTS.rglob("test_*.py") if "node_modules" not in path.parts]
    found = {path.stem for path in files}
    for path in files:
        found.update(re.findall(r"^ *(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    assert set(NAME.findall(read(page))) - known_tests() == set()


def test_every_promise_of_the_security_page_names_its_test() -> None:
    text = read("docs/security.md")
    heads = re.findall(r"^\|[^|\n]*\| held by \|\n\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert len(heads) == 2
    rows = [row for table in heads for row in table.splitlines()]
    assert len(rows) > 20
    nameless = [row for row in rows if not NAME.search(row) and "tests/" not in row]
    assert nameless == []
