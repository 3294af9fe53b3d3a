"""What the tables of operators are made of, and the one place where an operator is looked up.

The tables are allow-lists: what they do not name is refused, so a server that learns a new operator
does not open a hole. They also name what is known and refused, because "it runs JavaScript" helps
and "unknown" does not. They are written to be read and checked beside MongoDB's reference manual.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mdb_engine.scoped.refusals import refused

__all__ = ["Rule", "allow", "known", "refuse", "table"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to one operator.

    Parameters
    ----------
    category
        What kind of operator it is, in the manual's words.
    refused
        Why it is refused, as the rest of a sentence; None if it is allowed.
    since
        The server version that introduced it, where that is newer than 6.0.
    """

    category: str
    refused: str | None = None
    since: str | None = None


def allow(category: str, names: str, *, since: str | None = None) -> dict[str, Rule]:
    """Make the rows of operators that are allowed; ``names`` are separated by spaces."""
    return dict.fromkeys(names.split(), Rule(category, since=since))


def refuse(category: str, names: str, reason: str) -> dict[str, Rule]:
    """Make the rows of operators that are refused for one reason."""
    return dict.fromkeys(names.split(), Rule(category, refused=reason))


def table(*rows: Mapping[str, Rule]) -> Mapping[str, Rule]:
    """Join rows into a read-only table.

    Raises
    ------
    ValueError
        If an operator stands in it twice.
    """
    joined: dict[str, Rule] = {}
    for row in rows:
        if twice := joined.keys() & row.keys():
            raise ValueError(f"listed twice: {sorted(twice)}")
        joined.update(row)
    return MappingProxyType(joined)


def known(name: str, rules: Mapping[str, Rule], kind: str, path: str) -> Rule:
    """Look up an operator that is about to be used.

    Parameters
    ----------
    name
        The operator as the caller wrote it.
    rules
        The table of what may stand here.
    kind
        What is expected here (``stage``, ``expression operator``), for the error.
    path
        Where it stands, the operator included.

    Raises
    ------
    QueryRefused
        If the table refuses it or does not name it.
    """
    rule = rules.get(name)
    if rule is None:
        raise refused(name, f"it is not on the list of allowed {kind}s", path)
    if rule.refused is not None:
        raise refused(name, rule.refused, path)
    return rule
