"""How the scoped database says no: one sentence each, naming the operator and its position."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mdb_engine.constants import APP_ID_FIELD
from mdb_engine.exceptions import QueryRefused, ScopeDenied

__all__ = [
    "Position",
    "names_app_id",
    "refuse_app_id",
    "refused",
    "resolving",
    "shown",
    "written",
]

Position = str | tuple["Position", str | int]
"""Where a value stands in an input: its root's name, or the position of what holds it and its key
or index there. Cheap to make for each value; written out only for an error."""

_SHOWN_CHARACTERS = 60
"""How much of a caller's own name an error repeats: enough to find it, too little to fill a log."""


def shown(name: Any) -> str:
    """Return a name as an error may show it: quoted and short."""
    text = name if isinstance(name, str) else type(name).__name__
    text = text.encode("ascii", "backslashreplace").decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def written(position: Position) -> str:
    """Return a position as an error shows it: ``pipeline[2].$lookup.from``."""
    steps: list[str] = []
    while not isinstance(position, str):
        position, step = position
        steps.append(f"[{step}]" if isinstance(step, int) else f".{shown(step)}")
    return position + "".join(reversed(steps))


def refused(what: str, reason: str, path: Position) -> QueryRefused:
    """Make the error that refuses an operator, option or value.

    Parameters
    ----------
    what
        The operator or the option, as the caller wrote it.
    reason
        Why, and what to do instead; the rest of a sentence that begins with ``what``.
    path
        Where it stands.
    """
    return QueryRefused(f"{shown(what)} is refused: {reason}", path=written(path))


def names_app_id(field_path: str) -> bool:
    """Say whether a dotted path leads to the stamp or into it."""
    return field_path.split(".", 1)[0] == APP_ID_FIELD


def refuse_app_id(what: str, field_path: str, path: Position) -> None:
    """Refuse a write to the stamp.

    Raises
    ------
    QueryRefused
        If ``field_path`` leads to ``app_id`` or into it.
    """
    if names_app_id(field_path):
        raise refused(
            what, f"{APP_ID_FIELD} is the engine's stamp, and nothing else may write it", path
        )


@contextmanager
def resolving(path: Position) -> Iterator[None]:
    """Put the path of a collection's name into the error that resolving it raises."""
    try:
        yield
    except (QueryRefused, ScopeDenied) as error:
        if error.path is not None:
            raise
        raise type(error)(error.message, path=written(path)) from error
