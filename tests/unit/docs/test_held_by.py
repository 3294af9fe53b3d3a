"""What a page says holds a promise is a test that there is, and what it says rings an alert."""

from __future__ import annotations

import re

import pytest
import yaml
from unit.docs.pages import PAGES, ROOT, inline_code, read

from mdb_operator.apps.conditions import Reason
from mdb_operator.constants import KIND

TESTS = ROOT / "tests"
NAME = re.compile(r"`(?:tests/[a-z/_]+/)?(test_[a-z0-9_]+)(?:\.py)?`")
FILE = re.compile(r"`(tests/[\w/]+\.py)`")
ALERT = re.compile(r"Mdb[A-Z][A-Za-z]+")

NO_WALL = "-"


def known_tests() -> set[str]:
    files = [path for path in TESTS.rglob("test_*.py") if "node_modules" not in path.parts]
    found = {path.stem for path in files}
    for path in files:
        found.update(re.findall(r"^ *(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE))
    return found


def tables(page: str) -> list[list[list[str]]]:
    """Return the tables of a page, as rows of cells, the first their heads."""
    found = re.findall(r"(?:^\|.*\n)+", read(page), re.MULTILINE)
    return [
        [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
        for table in found
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    text = read(page)
    assert set(NAME.findall(text)) - known_tests() == set()
    assert [name for name in FILE.findall(text) if not (ROOT / name).is_file()] == []


def test_every_promise_of_the_security_page_names_its_test() -> None:
    held = [table for table in tables("docs/security.md") if table[0][-1].startswith("held by")]
    assert len(held) >= 9
    rows = [row for _, _, *table in held for row in table]
    assert len(rows) > 60
    nameless = [row for row in rows if not (NAME.search(row[-1]) or FILE.search(row[-1]))]
    assert [row for row in nameless if row[-1] != NO_WALL] == []


def test_every_section_of_the_security_page_names_a_test() -> None:
    _, *sections = re.split(r"^## ", read("docs/security.md"), flags=re.MULTILINE)
    nameless = [one.partition("\n")[0] for one in sections if not NAME.search(one)]
    assert nameless == ["Reporting a fault"]


def alerts() -> set[str]:
    [group] = yaml.safe_load((ROOT / "charts/mdb-operator/files/alerts.yaml").read_text())["groups"]
    return {rule["alert"] for rule in group["rules"]}


def test_the_alerts_that_the_guide_names_are_those_of_the_chart() -> None:
    named = {code for code in inline_code("docs/operations.md") if ALERT.fullmatch(code)}
    assert named - {KIND} == alerts()


@pytest.mark.parametrize("head", ["what is seen", "reason"])
def test_every_failure_of_the_guide_names_its_alert_or_why_there_is_none(head: str) -> None:
    [(heads, _, *rows)] = [one for one in tables("docs/operations.md") if one[0][0] == head]
    assert len(rows) >= len(Reason)
    told = {row[0]: row[heads.index("alert")] for row in rows}
    ringing = {row for row, text in told.items() if alerts() & set(re.findall(r"`(\w+)`", text))}
    reasoned = {row for row, text in told.items() if re.match(r"none\b[^:,]*[:,] .+", text)}
    assert told.keys() - ringing - reasoned == set()
