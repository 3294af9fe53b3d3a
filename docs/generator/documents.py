"""Find the generated tables of a document and replace them.

A document holds a table between two comments, ``<!-- generated: NAME -->`` and ``<!-- end of
NAME -->``. What stands between them is what the function of that name in `tables` returns, so that
names, defaults and limits are said once, by the code; a test holds the documents equal to it.
"""

from __future__ import annotations

import re
from pathlib import Path

from generator.tables import TABLES

__all__ = ["DOCS", "brought_up_to_date", "used_tables"]

DOCS = Path(__file__).resolve().parents[1]

_BLOCK = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end of (?P=name) -->)",
    re.DOTALL,
)


def brought_up_to_date(text: str) -> str:
    """Return a document with every generated table as the code has it now."""
    return _BLOCK.sub(
        lambda block: f"{block['begin']}\n{TABLES[block['name']]()}\n\n{block['end']}", text
    )


def used_tables(text: str) -> list[str]:
    """Return the names of the tables that a document holds."""
    return [block["name"] for block in _BLOCK.finditer(text)]
