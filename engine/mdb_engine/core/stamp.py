"""The validator by which MongoDB itself refuses every document of another app's stamp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mdb_engine.constants import APP_ID_FIELD

__all__ = ["own_validator", "stamped_validator"]


def own_validator(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a collection's validator without the stamp that `stamped_validator` put before it."""
    if _is_stamp(found):
        return {}
    clauses = found.get("$and")
    if len(found) == 1 and isinstance(clauses, list) and clauses and _is_stamp(clauses[0]):
        rest = clauses[1:]
        return rest[0] if len(rest) == 1 else {"$and": rest}
    return found


def stamped_validator(
    slug: str, found: Mapping[str, Any], *, collated: bool = False
) -> dict[str, Any]:
    """Return the validator by which MongoDB refuses every document of another stamp.

    Parameters
    ----------
    slug
        The app.
    found
        The collection's validator, of which whatever is not the stamp is kept.
    collated
        Whether the collection has a collation, by which other stamps are equal to the slug; a
        regular expression knows none.
    """
    condition = {"$eq": slug, "$regex": rf"^{slug}\z"} if collated else {"$eq": slug}
    stamp = {APP_ID_FIELD: condition}
    own = own_validator(found)
    return {"$and": [stamp, own]} if own else stamp


_STAMP: Final = frozenset({"$eq", "$regex"})


def _is_stamp(clause: Any) -> bool:
    if not isinstance(clause, Mapping) or list(clause) != [APP_ID_FIELD]:
        return False
    condition = clause[APP_ID_FIELD]
    return isinstance(condition, Mapping) and "$eq" in condition and condition.keys() <= _STAMP
