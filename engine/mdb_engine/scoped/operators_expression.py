"""Aggregation expressions: operators, accumulators, window functions and system variables.

The manual's sections, in its order, up to MongoDB 8.
"""

from __future__ import annotations

from mdb_engine.scoped.operators import allow, refuse, table

__all__ = ["ACCUMULATORS", "EXPRESSIONS", "META_KEYWORDS", "VARIABLES", "WINDOW_FUNCTIONS"]

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
