"""Update operators, and the stages of an update that is written as a pipeline."""

from __future__ import annotations

from mdb_engine.scoped.operators import allow, refuse, table

__all__ = ["ARRAY_MODIFIERS", "UPDATE_OPERATORS", "UPDATE_STAGES"]

UPDATE_OPERATORS = table(
    allow("field", "$currentDate $inc $max $min $mul $rename $set $setOnInsert $unset"),
    allow("array", "$addToSet $pop $pull $pullAll $push"),
    allow("bitwise", "$bit"),
    refuse("legacy", "$pushAll", "the server has dropped it; use $push with $each"),
    refuse("legacy", "$isolated $atomic", "the server has dropped it; use a transaction"),
    refuse("internal", "$v $diff", "it is the replication log's form of an update"),
    refuse("javascript", "$where $function $accumulator", "no JavaScript runs on a shared server"),
)
"""The keys of an update document."""

ARRAY_MODIFIERS = table(
    allow("array", "$each $position $slice $sort"),
)
"""What may stand in the value of ``$push`` and ``$addToSet``."""

UPDATE_STAGES = table(
    allow("fields", "$addFields $set $project $unset"),
    allow("root", "$replaceRoot $replaceWith"),
)
"""The stages of an update pipeline and of ``$merge.whenMatched``: the server's own list."""
