"""The tables of operators, and the one place where an operator is looked up.

The tables are allow-lists: what they do not name is refused, so a server that learns a new operator
does not open a hole. They also name what is known and refused, because "it runs JavaScript" helps
and "unknown" does not. They are written to be read and checked beside MongoDB's reference manual:
its sections, in its order, up to MongoDB 8. The stages of a pipeline are in `stages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mdb_engine.scoped.rewrite.refusals import Position, refused

__all__ = [
    "ACCUMULATORS",
    "ARRAY_MODIFIERS",
    "EXPRESSIONS",
    "FIELD_OPERATORS",
    "FILTER_OPERATORS",
    "META_KEYWORDS",
    "SEARCH_OPERATORS",
    "UPDATE_OPERATORS",
    "VARIABLES",
    "WINDOW_FUNCTIONS",
    "Rule",
    "allow",
    "known",
    "refuse",
    "table",
]


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


def known(name: str, rules: Mapping[str, Rule], kind: str, path: Position) -> Rule:
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


_JAVASCRIPT = refuse(
    "javascript",
    "$function $accumulator $where",
    "it runs JavaScript, and no JavaScript runs on a shared server",
)

EXPRESSIONS = table(
    allow("arithmetic", "$abs $add $ceil $divide $exp $floor $ln $log $log10 $mod $multiply"),
    allow("arithmetic", "$pow $round $sqrt $subtract $trunc"),
    allow("arithmetic", "$sigmoid", since="8.1"),
    allow("array", "$arrayElemAt $arrayToObject $concatArrays $filter $first $firstN $in"),
    allow("array", "$indexOfArray $isArray $last $lastN $map $maxN $minN $objectToArray"),
    allow("array", "$similarityCosine $similarityDotProduct $similarityEuclidean", since="8.2"),
    allow("array", "$range $reduce $reverseArray $size $slice $sortArray $zip"),
    allow("bitwise", "$bitAnd $bitNot $bitOr $bitXor", since="6.3"),
    allow("boolean", "$and $not $or"),
    allow("comparison", "$cmp $eq $gt $gte $lt $lte $ne"),
    allow("conditional", "$cond $ifNull $switch"),
    allow("data size", "$binarySize $bsonSize"),
    allow("date", "$dateAdd $dateDiff $dateFromParts $dateFromString $dateSubtract"),
    allow("date", "$dateToParts $dateToString $dateTrunc $dayOfMonth $dayOfWeek $dayOfYear"),
    allow("date", "$hour $isoDayOfWeek $isoWeek $isoWeekYear $millisecond $minute $month"),
    allow("date", "$second $week $year"),
    allow("literal", "$literal"),
    allow("miscellaneous", "$getField $rand $toHashedIndexKey"),
    allow("miscellaneous", "$createObjectId $hash $hexHash $serializeEJSON", since="8.3"),
    allow("object", "$mergeObjects $setField $unsetField"),
    allow("set", "$allElementsTrue $anyElementTrue $setDifference $setEquals"),
    allow("set", "$setIntersection $setIsSubset $setUnion"),
    allow("string", "$concat $indexOfBytes $indexOfCP $ltrim $regexFind $regexFindAll"),
    allow("string", "$regexMatch $replaceAll $replaceOne $rtrim $split $strLenBytes"),
    allow("string", "$strLenCP $strcasecmp $substr $substrBytes $substrCP $toLower $toUpper $trim"),
    allow("text", "$meta"),
    allow("timestamp", "$tsIncrement $tsSecond"),
    allow("trigonometry", "$acos $acosh $asin $asinh $atan $atan2 $atanh $cos $cosh"),
    allow("trigonometry", "$degreesToRadians $radiansToDegrees $sin $sinh $tan $tanh"),
    allow("type", "$convert $isNumber $toBool $toDate $toDecimal $toDouble $toInt $toLong"),
    allow("type", "$toObjectId $toString $type"),
    allow("type", "$toUUID", since="8.0"),
    allow("accumulator", "$avg $max $min $stdDevPop $stdDevSamp $sum"),
    allow("accumulator", "$median $percentile", since="7.0"),
    allow("variable", "$let"),
    _JAVASCRIPT,
    refuse("type", "$deserializeEJSON", "it makes JavaScript values of text; decode it in the app"),
    refuse("internal", "$const", "it is the server's own form; use $literal"),
    refuse(
        "encryption",
        "$encStrStartsWith $encStrEndsWith $encStrContains $encStrNormalizedEq",
        "it needs keys of queryable encryption, which the engine does not hold",
    ),
)
"""What may stand where an expression is expected."""

ACCUMULATORS = table(
    allow("accumulator", "$addToSet $avg $bottom $bottomN $count $first $firstN $last $lastN"),
    allow("accumulator", "$max $maxN $mergeObjects $min $minN $push $stdDevPop $stdDevSamp"),
    allow("accumulator", "$sum $top $topN"),
    allow("accumulator", "$median $percentile", since="7.0"),
    allow("accumulator", "$concatArrays $setUnion", since="8.1"),
    _JAVASCRIPT,
)
"""What ``$group``, ``$bucket`` and ``$bucketAuto`` may compute."""

WINDOW_FUNCTIONS = table(
    allow("accumulator", "$addToSet $avg $bottom $bottomN $count $first $firstN $last $lastN"),
    allow("accumulator", "$max $maxN $min $minN $push $stdDevPop $stdDevSamp $sum $top $topN"),
    allow("accumulator", "$median $percentile", since="7.0"),
    allow("accumulator", "$concatArrays $setUnion", since="8.1"),
    allow("gap filling", "$linearFill $locf"),
    allow("order", "$shift"),
    allow("rank", "$denseRank $documentNumber $rank"),
    allow("series", "$covariancePop $covarianceSamp $derivative $expMovingAvg $integral"),
    allow("scale", "$minMaxScaler", since="8.2"),
    _JAVASCRIPT,
)
"""What ``$setWindowFields`` may compute."""

VARIABLES = table(
    allow("document", "ROOT CURRENT REMOVE"),
    allow("redact", "DESCEND PRUNE KEEP"),
    allow("time", "NOW CLUSTER_TIME"),
    allow("search", "SEARCH_META"),
    refuse("identity", "USER_ROLES", "it shows the database user that the engine connects as"),
    refuse("javascript", "JS_SCOPE IS_MR", "it belongs to map-reduce, which runs JavaScript"),
)
"""System variables (``$$NAME``); variables that an expression binds begin with a small letter."""

META_KEYWORDS = frozenset(
    {
        "geoNearDistance",
        "geoNearPoint",
        "indexKey",
        "randVal",
        "recordId",
        "score",
        "scoreDetails",
        "searchHighlights",
        "searchScore",
        "searchScoreDetails",
        "searchSequenceToken",
        "sortKey",
        "textScore",
        "vectorSearchScore",
    }
)
"""What ``$meta`` may ask for: facts about a document that was found, so about one in scope."""


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

SEARCH_OPERATORS = table(
    allow("text", "autocomplete moreLikeThis phrase queryString regex text wildcard span term"),
    allow("value", "equals exists in near range"),
    allow("geospatial", "geoShape geoWithin"),
    allow("compound", "compound embeddedDocument hasAncestor hasRoot"),
    allow("vector", "knnBeta vectorSearch"),
)
"""Operators of Atlas Search and ``mongot``: all of them read the one index of the collection."""
