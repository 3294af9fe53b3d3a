"""Aggregation expressions, and the smaller parts of a query that may hold one.

Checking changes nothing: what passes is the engine's own copy, as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.operators import (
    ACCUMULATORS,
    EXPRESSIONS,
    META_KEYWORDS,
    VARIABLES,
    Rule,
    known,
)
from mdb_engine.scoped.rewrite.refusals import Position, refused
from mdb_engine.scoped.rewrite.values import plain_mapping

__all__ = [
    "check_accumulators",
    "check_expression",
    "check_operator",
    "check_variables",
    "scope_let",
]

_VARIABLE = re.compile(r"[a-z\u0080-\U0010ffff][A-Za-z0-9_\u0080-\U0010ffff]*")
"""The server's rule for a variable that an expression may bind."""


def check_expression(expression: Any, path: Position) -> None:
    """Walk an expression of plain values and refuse what is not on the list.

    Raises
    ------
    QueryRefused
        If it holds an operator or a system variable that is refused or unknown.
    """
    if isinstance(expression, str):
        _check_string(expression, path)
    elif isinstance(expression, list):
        for index, item in enumerate(expression):
            check_expression(item, (path, index))
    elif isinstance(expression, dict):
        name = next((key for key in expression if key.startswith("$")), None)
        if name is not None:
            _check_call(expression, name, path)
        else:
            for key, value in expression.items():
                check_expression(value, (path, key))


def check_operator(
    expression: Any, rules: Mapping[str, Rule], kind: str, path: Position
) -> tuple[str, Any]:
    """Check that a value is one call of an operator of a table, and return the call's parts.

    Returns
    -------
    tuple
        The operator's name and its argument, not yet walked.
    """
    if not isinstance(expression, dict) or len(expression) != 1:
        raise refused(type(expression).__name__, f"one {kind} in a mapping is expected", path)
    ((name, argument),) = expression.items()
    known(name, rules, kind, (path, name))
    return name, argument


def check_accumulators(fields: Any, path: Position) -> None:
    """Check a mapping of field names to accumulators, as ``$group`` has it."""
    if not isinstance(fields, dict):
        raise refused(type(fields).__name__, "a mapping of fields is expected", path)
    for field, value in fields.items():
        below = (path, field)
        name, argument = check_operator(value, ACCUMULATORS, "accumulator", below)
        check_expression(argument, (below, name))


def check_variables(variables: Any, path: Position) -> None:
    """Check a mapping of variable names to expressions: ``let`` and ``vars``."""
    if not isinstance(variables, dict):
        raise refused(type(variables).__name__, "a mapping of variables is expected", path)
    for name, value in variables.items():
        below = (path, name)
        if not _VARIABLE.fullmatch(name):
            raise refused(name, "a variable's name begins with a small letter", below)
        check_expression(value, below)


def scope_let(
    variables: Mapping[str, Any], limits: Limits, *, path: Position = "let"
) -> dict[str, Any]:
    """Copy and check the ``let`` option of an operation."""
    plain = plain_mapping(variables, limits, path)
    check_variables(plain, path)
    return plain


def _check_string(value: str, path: Position) -> None:
    if value.startswith("$$"):
        name = value[2:].split(".", 1)[0]
        if not _VARIABLE.fullmatch(name):
            known(name, VARIABLES, "system variable", (path, f"$${name}"))


def _check_call(expression: dict[str, Any], name: str, path: Position) -> None:
    below = (path, name)
    known(name, EXPRESSIONS, "expression operator", below)
    if len(expression) != 1:
        raise refused(name, "an operator stands alone in its mapping", below)
    argument = expression[name]
    if name == "$literal":
        return
    if name == "$meta":
        if not isinstance(argument, str) or argument not in META_KEYWORDS:
            raise refused("$meta", "it has to name a known keyword", below)
    elif name == "$let":
        _check_let(argument, below)
    else:
        check_expression(argument, below)


def _check_let(argument: Any, path: Position) -> None:
    if not isinstance(argument, dict) or argument.keys() != {"vars", "in"}:
        raise refused("$let", "it has to hold exactly vars and in", path)
    check_variables(argument["vars"], (path, "vars"))
    check_expression(argument["in"], (path, "in"))
