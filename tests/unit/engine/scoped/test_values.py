"""What is checked is what is sent: one plain copy, within the limits."""

from __future__ import annotations

import copy
import enum
import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson.binary import Binary, UuidRepresentation
from bson.code import Code
from bson.codec_options import CodecOptions, TypeEncoder, TypeRegistry
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from bson.son import SON
from bson.timestamp import Timestamp
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from unit.engine.scoped.apps import LIMITS, ORDERS

from mdb_engine.exceptions import LimitExceeded, QueryRefused
from mdb_engine.scoped.context import _codecs
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.filters import (
    scope_filter,
    scope_read_filter,
    scope_upsert_filter,
)
from mdb_engine.scoped.rewrite.updates import scope_update
from mdb_engine.scoped.rewrite.values import _FIXED_SIZES as KEPT
from mdb_engine.scoped.rewrite.values import (
    ENOUGH_FLAT,
    _Copy,
    _NotPlainError,
    _PlainCopy,
    plain_document,
    plain_value,
)


class Changing(Mapping[str, Any]):
    """Harmless when it is read first, and not afterwards."""

    def __init__(self) -> None:
        self.reads = 0

    def __getitem__(self, key: str) -> Any:
        self.reads += 1
        return 1 if self.reads == 1 else {"$where": "true"}

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


class Liar(str):
    """A string that hides what it begins with."""

    __slots__ = ()

    def startswith(self, *_: Any) -> bool:
        return False

    def __str__(self) -> str:
        return "harmless"


FORGED = bson.encode({"$function": {"body": "function() {}", "args": [], "lang": "js"}})
RAW_BSON = 101
"""What the drivers' encoder takes for a raw document when a value says so in ``_type_marker``."""


class ForgedDate(datetime):
    _type_marker = RAW_BSON
    raw = FORGED


class ForgedId(ObjectId):
    _type_marker = RAW_BSON
    raw = FORGED


class ForgedUuid(uuid.UUID):
    _type_marker = RAW_BSON
    raw = FORGED


class ForgedRegex(Regex[str]):
    _type_marker = RAW_BSON
    raw = FORGED


class ForgedBytes(bytes):
    def __bytes__(self) -> bytes:
        return forged_binary()


def forged_binary() -> Binary:
    binary = Binary(b"x")
    binary.__dict__.update(_type_marker=RAW_BSON, raw=FORGED)
    return binary


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def test_mapping_is_read_once() -> None:
    scoped = scope_filter({"x": Changing()}, ORDERS, LIMITS)
    assert scoped == {"app_id": "shop", "x": {"a": 1}}


def test_string_subclass_becomes_the_string_that_it_holds() -> None:
    with pytest.raises(QueryRefused, match=r"\$where"):
        scope_filter({Liar("$where"): "true"}, ORDERS, LIMITS)
    copied = plain_value({"a": Liar("$$ROOT"), "b": Colour.RED, "c": Level.HIGH}, LIMITS, "v")
    assert copied == {"a": "$$ROOT", "b": "red", "c": 3}
    assert [type(value) for value in copied.values()] == [str, str, int]


def test_raw_bson_with_a_key_twice_is_decoded_before_it_is_checked() -> None:
    one, two = bson.encode({"a": {"b": 1}}), bson.encode({"a": {"$where": "true"}})
    body = one[4:-1] + two[4:-1] + b"\0"
    raw = RawBSONDocument((len(body) + 4).to_bytes(4, "little") + body)
    with pytest.raises(QueryRefused, match=r"\$where"):
        scope_filter(raw, ORDERS, LIMITS)


@pytest.mark.parametrize("value", [b"\x05\0\0\0\0", b"\x0c\0\0\0\x10a\0\x01\0\0\0\0"])
def test_raw_bson_becomes_a_plain_dict(value: bytes) -> None:
    copied = plain_document(RawBSONDocument(value), LIMITS, "d")
    assert type(copied) is dict
    assert bson.encode(copied) == value


def test_raw_bson_that_is_broken_inside_is_refused() -> None:
    broken = RawBSONDocument(b"\x10\0\0\0\x03a\0\x08\0\0\0\x99\0\0\0\0")
    with pytest.raises(QueryRefused, match="cannot be read"):
        plain_document(broken, LIMITS, "d")


def test_bson_types_are_kept() -> None:
    document = SON(
        [
            ("id", ObjectId()),
            ("when", datetime(2026, 1, 2, tzinfo=UTC)),
            ("money", Decimal128("1.5")),
            ("long", Int64(5)),
            ("bytes", b"x"),
            ("binary", Binary(b"x", 128)),
            ("stamp", Timestamp(1, 2)),
            ("regex", Regex("a", "i")),
            ("least", MinKey()),
            ("most", MaxKey()),
            ("number", 1.5),
            ("flag", True),
            ("none", None),
            ("tuple", (1, 2)),
        ]
    )
    copied = plain_document(document, LIMITS, "d")
    assert bson.encode(copied) == bson.encode(document)
    assert type(copied["long"]) is Int64
    assert copied["tuple"] == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        Code("f"),
        Code("f", {}),
        {1, 2},
        object(),
        1 + 2j,
        2**63,
        -(2**63) - 1,
        "\ud800",
        {"a\0": 1},
        {1: 1},
        {None: 1},
        {b"a": 1},
        Regex("a\0"),
        iter([1]),
    ],
)
@pytest.mark.parametrize("wrap", [lambda v: {"k": v}, lambda v: {"k": [[{"x": v}]]}])
def test_what_bson_cannot_hold_is_refused_with_its_path(value: Any, wrap: Any) -> None:
    with pytest.raises(QueryRefused) as caught:
        plain_value(wrap(value), LIMITS, "d")
    assert str(caught.value.path).startswith("d.k")


def test_shared_and_cyclic_structures_end_at_a_limit() -> None:
    bomb: Any = ["x" * 10]
    for _ in range(40):
        bomb = [bomb, bomb]
    with pytest.raises(LimitExceeded, match="max_query_bytes"):
        plain_value(bomb, LIMITS, "filter")
    cycle: dict[str, Any] = {}
    cycle["a"] = cycle
    with pytest.raises(LimitExceeded, match="max_depth"):
        plain_value(cycle, LIMITS, "filter")


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.binary(),
    st.uuids(),
    st.datetimes(),
    st.builds(ObjectId),
    st.builds(Int64, st.integers(0, 9)),
    st.builds(Binary, st.binary(), st.sampled_from([0, 2, 5, 128])),
    st.sampled_from([re.compile("^ä", re.IGNORECASE), re.compile(b"a"), Regex("b", "ilmsux")]),
    st.sampled_from([MinKey(), MaxKey(), Timestamp(1, 2), Decimal128("1.5"), DatetimeMS(5)]),
)
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS,
        lambda below: st.lists(below, max_size=12) | st.dictionaries(NAMES, below, max_size=4),
        max_leaves=25,
    ),
    max_size=6,
)


@given(DOCUMENTS)
@example({"flags": [True] * 1200, "a" * 3000: list(range(200))})
def test_size_is_counted_to_the_byte_as_bson_counts_it(document: dict[str, Any]) -> None:
    options = CodecOptions[Any](uuid_representation=UuidRepresentation.STANDARD)
    size = len(bson.encode(document, codec_options=options))
    plain_document(document, Limits(max_document_bytes=size), "d")
    with pytest.raises(LimitExceeded) as caught:
        plain_document(document, Limits(max_document_bytes=size - 1), "d")
    assert "max_document_bytes" in str(caught.value)
    assert str(size - 1) in str(caught.value)


def test_long_names_do_not_fill_an_error() -> None:
    with pytest.raises(QueryRefused) as caught:
        scope_filter({"$" + "x" * 100_000: 1}, ORDERS, LIMITS)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "forged",
    [
        ForgedDate(2026, 1, 2, 3, 4, 5, 6000, UTC),
        ForgedId("0123456789ab0123456789ab"),
        ForgedUuid(int=7),
        ForgedRegex("^a", "i"),
        forged_binary(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_that_calls_itself_raw_bson_is_sent_as_what_it_is(forged: Any) -> None:
    options = CodecOptions[Any](uuid_representation=UuidRepresentation.STANDARD, tz_aware=True)
    sent_as_given = bson.encode({"v": forged}, codec_options=options)
    assert b"$function" in sent_as_given, "the forgery has to work, or this tests nothing"
    copied = plain_value({"v": forged}, LIMITS, "v")
    encoded = bson.encode(copied, codec_options=options)
    assert b"$function" not in encoded
    assert type(copied["v"]) in {datetime, ObjectId, uuid.UUID, Regex, Binary}
    assert copied["v"] == forged


def test_bytes_subclass_is_not_asked_for_its_bytes() -> None:
    copied = plain_value(ForgedBytes(b"x"), LIMITS, "v")
    assert (type(copied), copied) == (bytes, b"x")


def test_kept_types_take_no_attribute_that_the_encoder_reads() -> None:
    one_of_each = {
        type(None): None,
        bool: True,
        float: 1.0,
        Int64: Int64(1),
        datetime: datetime.now(UTC),
        DatetimeMS: DatetimeMS(1),
        Timestamp: Timestamp(1, 1),
        ObjectId: ObjectId(),
        Decimal128: Decimal128("1"),
        uuid.UUID: uuid.uuid4(),
        MinKey: MinKey(),
        MaxKey: MaxKey(),
    }
    assert one_of_each.keys() == KEPT.keys()
    for value in one_of_each.values():
        with pytest.raises((AttributeError, TypeError)):
            object.__setattr__(value, "_type_marker", RAW_BSON)


def test_regular_expression_cannot_be_changed_after_the_check() -> None:
    regex = Regex("^a", "i")
    copied = plain_value(regex, LIMITS, "v")
    regex.pattern = "a\0"
    assert (copied.pattern, copied.flags) == ("^a", re.IGNORECASE)


# Whatever is given: the copy has exact types, and is the giver's no more.

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]

EXACT = {dict, list, str, int, bytes, Binary, Regex, re.Pattern, *KEPT}


class Shifting(Mapping[str, Any]):
    """Has other items every time it is read."""

    def __init__(self, states: list[dict[str, Any]]) -> None:
        self.states = states
        self.reads = 0

    def state(self) -> dict[str, Any]:
        return self.states[min(self.reads, len(self.states) - 1)]

    def __getitem__(self, key: str) -> Any:
        return self.state().get(key, {"$where": "1"})

    def __iter__(self) -> Iterator[str]:
        keys = list(self.state())
        self.reads += 1
        return iter(keys)

    def __len__(self) -> int:
        return len(self.state())


class Lazy(list[Any]):
    """A sequence whose items are made when they are asked for, and differ."""

    def __iter__(self) -> Iterator[Any]:
        return iter([{"$where": "1"}, *super().__iter__()])

    def __getitem__(self, index: Any) -> Any:
        return {"$function": index}


class Key(str):
    """A name that equals nothing, whatever it reads as."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def encode(self, *_: Any) -> bytes:
        return b"$where"


class Whole(int):
    def __index__(self) -> int:
        return 2**70


def twins(name: str, first: Any, second: Any) -> RawBSONDocument:
    """Make a raw document that has one key twice."""
    options = CodecOptions[Any](uuid_representation=UuidRepresentation.STANDARD)
    one, two = (bson.encode({name: each}, codec_options=options) for each in (first, second))
    body = one[4:-1] + two[4:-1] + b"\0"
    return RawBSONDocument((len(body) + 4).to_bytes(4, "little") + body)


PLAIN = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(NAMES, below, max_size=4),
    max_leaves=8,
)
ODD = st.one_of(
    st.builds(
        Shifting, st.lists(st.dictionaries(NAMES, PLAIN, max_size=2), min_size=1, max_size=3)
    ),
    st.builds(Lazy, st.lists(PLAIN, max_size=2)),
    st.builds(lambda name, value: {Key(name): value, name: value}, NAMES, PLAIN),
    st.builds(twins, NAMES, PLAIN, PLAIN),
    st.builds(Liar, NAMES),
    st.builds(Whole, st.integers(0, 9)),
    st.builds(lambda value: (value, value), PLAIN),
    st.builds(lambda name, value: SON([(name, value)]), NAMES, PLAIN),
    st.sampled_from(
        [ForgedDate(2026, 1, 2), ForgedBytes(b"x"), Colour.RED, Level.HIGH, DBRef("a", 1)]
    ),
)
ANYTHING = st.recursive(
    PLAIN | ODD,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=6,
)


def exact(value: Any) -> None:
    assert type(value) in EXACT
    if isinstance(value, dict):
        for name, item in value.items():
            assert type(name) is str
            exact(item)
    elif isinstance(value, list):
        for item in value:
            exact(item)


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(st.dictionaries(NAMES, ANYTHING, max_size=4))
def test_a_copy_is_exact_and_nobody_elses(document: dict[str, Any]) -> None:
    try:
        copied = plain_document(document, LIMITS, "d")
    except QueryRefused:
        return
    exact(copied)
    options = CodecOptions[Any](uuid_representation=UuidRepresentation.STANDARD)
    sent = bson.encode(copied, codec_options=options)
    again = plain_document(copied, LIMITS, "d")
    assert bson.encode(again, codec_options=options) == sent
    held = {id(one) for one in containers(document)}
    assert not held & {id(one) for one in containers(copied)}


def containers(value: Any) -> list[Any]:
    if type(value) is dict:
        return [value, *(found for item in value.values() for found in containers(item))]
    if type(value) is list:
        return [value, *(found for item in value for found in containers(item))]
    return []


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(DOCUMENTS)
def test_both_copiers_make_the_same_of_what_both_know(document: dict[str, Any]) -> None:
    quick, careful = _PlainCopy(LIMITS.max_document_bytes), _Copy(LIMITS, "max_document_bytes", "d")
    try:
        copied = quick.mapping(document, LIMITS.max_depth)
    except _NotPlainError:
        copied = None
    other = careful.value(document, "d", 0)
    options = CodecOptions[Any](uuid_representation=UuidRepresentation.STANDARD)
    assert bson.encode(other, codec_options=options) == bson.encode(document, codec_options=options)
    if copied is not None:
        assert list(copied) == list(document)
        assert bson.encode(copied, codec_options=options) == bson.encode(
            other, codec_options=options
        )
        assert quick.left == careful._left


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


class MoneyCodec(TypeEncoder):
    python_type = Money

    def transform_python(self, value: Money) -> Any:
        return {"cents": value.cents} if value.cents >= 0 else {"$where": "1"}


def test_an_apps_own_types_go_through_its_codecs_and_what_comes_out_is_checked() -> None:
    codecs = _codecs(CodecOptions(type_registry=TypeRegistry([MoneyCodec()], str)))
    copied = plain_value({"a": Money(5), "b": [Money(1)], "c": 1 + 2j}, LIMITS, "v", codecs=codecs)
    assert copied == {"a": {"cents": 5}, "b": [{"cents": 1}], "c": "(1+2j)"}
    with pytest.raises(QueryRefused, match=r"\$where"):
        scope_filter({"a": Money(-1)}, ORDERS, LIMITS, codecs=codecs)
    with pytest.raises(QueryRefused, match="Code"):
        plain_value({"a": Code("f")}, LIMITS, "v", codecs=codecs)
    with pytest.raises(QueryRefused, match="Money"):
        plain_value({"a": Money(5)}, LIMITS, "v")
    endless = _codecs(CodecOptions(type_registry=TypeRegistry([], lambda v: [v])))
    with pytest.raises(LimitExceeded, match="max_depth"):
        plain_value({"a": object()}, LIMITS, "v", codecs=endless)


KEYS = st.sampled_from(
    [
        *("a", "a.b", "_id", "app_id", "app_id.x", "", "é", "a\0", "$a", "a$", "$where", "$expr"),
        *("$gt", "$ne", "$in", "$not", Liar("a"), Liar("$gt"), Liar("$where"), 1, "x" * 1001),
    ]
)
SMALL_DICTS = st.dictionaries(KEYS, PLAIN | ODD, max_size=2)
FLAT = st.dictionaries(KEYS, PLAIN | ODD | SMALL_DICTS, max_size=3)
CAREFUL = Limits(max_query_bytes=ENOUGH_FLAT - 1)
"""Limits within which nothing is copied without a walk."""


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=SLOW)
@given(FLAT)
@example({"a": {"$gt": 1, "$where": "1"}})
@example({"a": {Liar("$gt"): 1}})
@example({"$where": "1"})
@example({"a": Code("1")})
@example({"a": {"$gt": {"$where": "1"}}})
@example({"a": "\ud800"})
@example({"a": 2**63})
@example({"a": True, "b": Level.HIGH})
def test_what_is_not_walked_through_is_what_the_walk_would_make_of_it(value: Any) -> None:
    def outcome(make: Any) -> Any:
        try:
            made = make()
        except QueryRefused as error:
            return type(error), error.path
        exact(made)
        return [*made.items()]

    filters = [scope_filter, scope_read_filter, scope_upsert_filter]
    operators = ["$set", "$inc", "$unset", "$setOnInsert", "$push", "$rename", "$pull"]
    cases: list[tuple[Any, Any]] = [(scope, value) for scope in filters]
    cases += [(scope_update, {operator: value}) for operator in operators]
    for scope, given_value in cases:
        # Each reads one of its own, as some of them change when they are read.
        quick, careful = (
            outcome(lambda limits=limits: scope(copy.deepcopy(given_value), ORDERS, limits))  # noqa: B023
            for limits in (LIMITS, CAREFUL)
        )
        assert quick == careful


def test_what_is_not_walked_through_is_a_copy() -> None:
    inner = {"$gt": 1}
    query: dict[str, Any] = {"_id": 7, "n": inner}
    scoped = scope_filter(query, ORDERS, LIMITS)
    changes = {"$set": {"n": 1}}
    update = scope_update(changes, ORDERS, LIMITS)
    inner["$where"] = query["$where"] = changes["$set"]["app_id"] = "hr"  # type: ignore[assignment]
    assert scoped == {"app_id": "shop", "_id": 7, "n": {"$gt": 1}}
    assert update == {"$set": {"n": 1}}


def test_small_limits_hold_for_what_is_not_walked_through() -> None:
    with pytest.raises(LimitExceeded):
        scope_filter({"name": "x" * 30}, ORDERS, Limits(max_query_bytes=20))
    with pytest.raises(LimitExceeded):
        scope_update({"$set": {"name": "x" * 30}}, ORDERS, Limits(max_document_bytes=20))
