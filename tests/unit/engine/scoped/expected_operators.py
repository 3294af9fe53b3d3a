"""What MongoDB 8 has, written down from its manual and not from the engine's tables.

The tests hold the tables against these lists in both directions, so an operator that slips into a
table, or out of it, is seen.
"""

from __future__ import annotations


def _names(text: str) -> list[str]:
    return text.split()


STAGES_ALLOWED = _names("""
$addFields $bucket $bucketAuto $count $densify $documents $facet $fill $geoNear $graphLookup
$group $limit $lookup $match $merge $out $project $rankFusion $redact $replaceRoot $replaceWith
$sample $score $scoreFusion $search $searchMeta $set $setWindowFields $skip $sort $sortByCount
$unionWith $unset $unwind $vectorSearch
""")

STAGES_REFUSED = _names("""
$accumulator $backupCursor $backupCursorExtend $changeStream $changeStreamSplitLargeEvent
$collStats $currentOp $exchange $function $indexStats $listCachedAndActiveUsers $listCatalog
$listClusterCatalog $listLocalSessions $listSampledQueries $listSearchIndexes $listSessions
$mergeCursors $operationMetrics $planCacheStats $querySettings $queryStats $queue
$setQuerySettings $setVariableFromSubPipeline $shardedDataDistribution $where
""")

STAGES_UNKNOWN = _names("""
$_internalInhibitOptimization $_internalSearchMongotRemote $_internalUnpackBucket
$_internalShredDocuments $_internalSearchIdLookup $_internalAllCollectionStats
$_internalApplyOplogUpdate $eval $mapReduce $MATCH match $ $$ROOT $stats $_unpackBucket
""")

EXPRESSIONS_ALLOWED = _names("""
$abs $acos $acosh $add $allElementsTrue $and $anyElementTrue $arrayElemAt $arrayToObject $asin
$asinh $atan $atan2 $atanh $avg $binarySize $bitAnd $bitNot $bitOr $bitXor $bsonSize $ceil $cmp
$concat $concatArrays $cond $convert $cos $cosh $dateAdd $dateDiff $dateFromParts
$dateFromString $dateSubtract $dateToParts $dateToString $dateTrunc $dayOfMonth $dayOfWeek
$dayOfYear $degreesToRadians $divide $eq $exp $filter $first $firstN $floor $getField $gt $gte
$hour $ifNull $in $indexOfArray $indexOfBytes $indexOfCP $isArray $isNumber $isoDayOfWeek
$isoWeek $isoWeekYear $last $lastN $let $literal $ln $log $log10 $lt $lte $ltrim $map $max $maxN
$median $mergeObjects $meta $millisecond $min $minN $minute $mod $month $multiply $ne $not
$objectToArray $or $percentile $pow $radiansToDegrees $rand $range $reduce $regexFind
$regexFindAll $regexMatch $replaceAll $replaceOne $reverseArray $round $rtrim $second
$setDifference $setEquals $setField $setIntersection $setIsSubset $setUnion $sigmoid $sin $sinh
$size $slice $sortArray $split $sqrt $stdDevPop $stdDevSamp $strLenBytes $strLenCP $strcasecmp
$substr $substrBytes $substrCP $subtract $sum $switch $tan $tanh $toBool $toDate $toDecimal
$toDouble $toHashedIndexKey $toInt $toLong $toLower $toObjectId $toString $toUUID $toUpper $trim
$trunc $tsIncrement $tsSecond $type $unsetField $week $year $zip $createObjectId $hash $hexHash
$serializeEJSON $similarityCosine $similarityDotProduct $similarityEuclidean
""")

EXPRESSIONS_REFUSED = _names("""
$accumulator $const $deserializeEJSON $encStrContains $encStrEndsWith $encStrNormalizedEq
$encStrStartsWith $function $where
""")

EXPRESSIONS_UNKNOWN = _names("""
$_internalFindAllValuesAtPath $_internalFleEq $_internalJsEmit $_testApiVersion $push $lookup
$match $eval $ROOT $expr $addToSet $ $$NOW
""")

ACCUMULATORS_ALLOWED = _names("""
$addToSet $avg $bottom $bottomN $concatArrays $count $first $firstN $last $lastN $max $maxN
$median $mergeObjects $min $minN $percentile $push $setUnion $stdDevPop $stdDevSamp $sum $top
$topN
""")

WINDOW_FUNCTIONS_ALLOWED = _names("""
$addToSet $avg $bottom $bottomN $concatArrays $count $covariancePop $covarianceSamp $denseRank
$derivative $documentNumber $expMovingAvg $first $firstN $integral $last $lastN $linearFill
$locf $max $maxN $median $min $minMaxScaler $minN $percentile $push $rank $setUnion $shift
$stdDevPop $stdDevSamp $sum $top $topN
""")

JAVASCRIPT = _names("$accumulator $function $where")

FILTERS_ALLOWED = _names("$and $comment $db $expr $id $jsonSchema $nor $or $ref $sampleRate $text")

FILTERS_REFUSED = _names("""
$accumulator $alwaysFalse $alwaysTrue $atomic $function $isolated $not $orderby $query $where
""")

FIELDS_ALLOWED = _names("""
$all $bitsAllClear $bitsAllSet $bitsAnyClear $bitsAnySet $elemMatch $eq $exists $geoIntersects
$geoWithin $gt $gte $in $lt $lte $maxDistance $minDistance $mod $ne $near $nearSphere $nin $not
$options $regex $size $type
""")

FIELDS_REFUSED = _names("""
$accumulator $and $comment $expr $function $geoNear $jsonSchema $nor $or $text $uniqueDocs
$where $within
""")

UPDATES_ALLOWED = _names("""
$addToSet $bit $currentDate $inc $max $min $mul $pop $pull $pullAll $push $rename $set
$setOnInsert $unset
""")

UPDATES_REFUSED = _names("$accumulator $atomic $diff $function $isolated $pushAll $v $where")

UPDATE_STAGES_ALLOWED = _names("$addFields $project $replaceRoot $replaceWith $set $unset")

CHANGE_STREAM_STAGES_ALLOWED = _names("""
$addFields $changeStreamSplitLargeEvent $match $project $redact $replaceRoot $replaceWith $set
$unset
""")

VARIABLES_ALLOWED = _names("CLUSTER_TIME CURRENT DESCEND KEEP NOW PRUNE REMOVE ROOT SEARCH_META")

VARIABLES_REFUSED = _names("IS_MR JS_SCOPE USER_ROLES")

SEARCH_ALLOWED = _names("""
autocomplete compound embeddedDocument equals exists geoShape geoWithin hasAncestor hasRoot in
knnBeta moreLikeThis near phrase queryString range regex span term text vectorSearch wildcard
""")
