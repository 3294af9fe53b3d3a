"""What the documents say of names, defaults and reasons is what the code has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from generator.documents import DOCS, brought_up_to_date, used_tables
from generator.tables import CHART, TABLES
from generator.values import chart_values
from unit.docs.pages import PAGES, ROOT, read

from mdb_engine.config import EngineSettings, secret_variable
from mdb_operator import constants
from mdb_operator.apps.conditions import ConditionType, Reason
from mdb_operator.config import ENV_PREFIX, Config
from mdb_operator.process.metrics import Metrics

DOCUMENTS = sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_generated_tables_are_up_to_date(name: str) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    assert text == brought_up_to_date(text), "run `make docs` and commit the result"
    assert text.count("<!-- generated:") == len(used_tables(text)), "a block is not closed"


def test_every_table_is_shown_somewhere() -> None:
    used = {table for name in DOCUMENTS for table in used_tables(read(f"docs/{name}"))}
    assert used == TABLES.keys()


def first_cells(page: str, head: str) -> list[str]:
    """Return the names in the first column of the table that begins with a head."""
    rows = read(page).partition(f"| {head} |")[2].splitlines()[2:]
    cells = []
    for row in rows:
        if not row.startswith("|"):
            break
        cells += re.findall(r"`([^`]+)`", row.split("|")[1])
    return cells


def test_every_reason_has_its_remedy() -> None:
    assert set(first_cells("docs/operations.md", "reason")) == {str(reason) for reason in Reason}


def test_every_condition_is_explained() -> None:
    kinds = {str(kind) for kind in ConditionType}
    assert set(first_cells("docs/operations.md", "condition")) == kinds
    assert not [name for name in (*kinds, *Reason) if f"`{name}`" not in read("docs/reference.md")]


def test_every_key_of_the_secret_is_explained() -> None:
    assert tuple(first_cells("docs/reference.md", "key")) == constants.SECRET_KEYS


def mentioned(pattern: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found in re.findall(pattern, read(page)):
            yield page, found


def test_every_metric_that_is_mentioned_exists() -> None:
    text = "".join(family.name + "\n" for family in Metrics().registry.collect())
    families = set(text.split())
    suffixes = re.compile(r"_(total|bucket|sum|count)$")
    unknown = [
        where
        for where in mentioned(r"\bmdb_operator_[a-z_]+")
        if where[1] not in families and suffixes.sub("", where[1]) not in families
    ]
    assert unknown == []


def test_every_variable_that_is_mentioned_exists() -> None:
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Config.model_fields}
    known |= {str(field.validation_alias) for field in EngineSettings.model_fields.values()}
    known |= set(re.findall(r"\bMDB_[A-Z_]+", code_of_the_tests()))
    known.add(secret_variable("jwt"))
    unknown = [
        where for where in mentioned(r"\bMDB_[A-Z_]*[A-Z]\b(?!_?\*)") if where[1] not in known
    ]
    assert unknown == []


def code_of_the_tests() -> str:
    """Return the code that reads the variables of the tests."""
    files = [*ROOT.glob("tests/support/*.py"), *ROOT.glob("tests/cluster/**/*.py")]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_every_annotation_that_is_mentioned_exists() -> None:
    known = {
        value
        for name, value in vars(constants).items()
        if name.startswith(("ANNOTATION_", "LABEL_", "FINALIZER", "API_VERSION"))
    }
    unknown = [
        where
        for where in mentioned(rf"\b{re.escape(constants.GROUP)}/[a-z-]+[a-z0-9]\b")
        if where[1] not in known
    ]
    assert unknown == []


def test_the_chart_is_secure_by_default() -> None:
    defaults = {path: shown.strip("`") for path, shown, _ in chart_values(CHART)}
    wanted = {
        "isolation": "database",
        "admissionPolicy.enabled": "true",
        "networkPolicy.enabled": "true",
        "workloadRestart.enabled": "false",
        "adoptCollections": "false",
        "rbac.letGo": "false",
        "mongodb.trial.enabled": "false",
    }
    assert {path: defaults[path] for path in wanted} == wanted


def test_every_value_of_the_chart_that_is_set_exists() -> None:
    known = {path for path, _, _ in chart_values(CHART)}
    assert "mongodb.trial.resources" in known
    unknown = [
        where for where in mentioned(r"--set(?:-string)? ([\w.]+)=") if where[1] not in known
    ]
    assert unknown == []
