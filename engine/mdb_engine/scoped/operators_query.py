"""Query operators: what may stand in a filter, in ``$match`` and in ``arrayFilters``."""

from __future__ import annotations

from mdb_engine.scoped.operators import allow, refuse, table

__all__ = ["FIELD_OPERATORS", "FILTER_OPERATORS"]

JAVASCRIPT = "it runs JavaScript, and no JavaScript runs on a shared server; use $expr"

FILTER_OPERATORS = table(
    allow("logical", "$and $or $nor"),
    allow("evaluation", "$expr $jsonSchema $text"),
    allow("miscellaneous", "$comment $sampleRate"),
    allow("reference", "$ref $id $db"),
    refuse("javascript", "$where", JAVASCRIPT),
    refuse("javascript", "$function $accumulator", JAVASCRIPT),
    refuse("internal", "$alwaysTrue $alwaysFalse", "it is the server's own; use {} or $nor"),
    refuse("legacy", "$isolated $atomic", "the server has dropped it; use a transaction"),
    refuse("legacy", "$query $orderby", "it is an old form of find; use filter and sort"),
    refuse("position", "$not", "it negates one field's condition; use $nor here"),
)
"""Operators that stand where a field name could: at the top of a filter or in a logical one."""

FIELD_OPERATORS = table(
    allow("comparison", "$eq $ne $gt $gte $lt $lte $in $nin"),
    allow("logical", "$not"),
    allow("element", "$exists $type"),
    allow("evaluation", "$mod $regex $options"),
    allow("array", "$all $elemMatch $size"),
    allow("bitwise", "$bitsAllClear $bitsAllSet $bitsAnyClear $bitsAnySet"),
    allow("geospatial", "$geoWithin $geoIntersects $near $nearSphere"),
    allow("geospatial", "$maxDistance $minDistance"),
    refuse("javascript", "$where $function $accumulator", JAVASCRIPT),
    refuse("legacy", "$within", "the server has deprecated it; use $geoWithin"),
    refuse("legacy", "$geoNear", "as a query operator it is legacy; use $near or $nearSphere"),
    refuse("legacy", "$uniqueDocs", "the server has dropped it"),
    refuse("position", "$and $or $nor $expr", "it stands beside fields, not below one"),
    refuse("position", "$text $jsonSchema $comment", "it stands beside fields, not below one"),
)
"""Operators that stand below a field name."""
