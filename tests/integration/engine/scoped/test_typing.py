"""Code that uses the scoped database has real types, and its mistakes are found by mypy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

pytestmark = pytest.mark.long

USER_CODE = Path(__file__).with_name("user_code.py")
ROOT = Path(__file__).parents[4]


def test_user_code_is_typed_and_its_mistakes_are_found(tmp_path: Path) -> None:
    source = USER_CODE.read_text()
    code = tmp_path / "app.py"  # on a copy, as a mistake is not to be found by `make lint`
    code.write_text(source)

    output, errors, _ = api.run(
        [
            *("--strict", "--no-error-summary", "--hide-error-context"),
            *("--config-file", str(ROOT / "pyproject.toml")),
            *("--cache-dir", str(ROOT / ".mypy_cache")),
            str(code),
        ]
    )

    expected = {
        (number, found[1])
        for number, line in enumerate(source.splitlines(), 1)
        if (found := re.search(r"# E: ([a-z-]+)$", line))
    }
    reported = {
        (int(line), error)
        for line, error in re.findall(r"app\.py:(\d+): error: .*\[([a-z-]+)\]", output)
    }
    assert errors == ""
    assert reported == expected, output
