"""What is checked is what is sent: one plain copy, within the limits."""

from __future__ import annotations

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
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from bson.son import SON
from bson.timestamp import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st
from unit.engine.scoped.apps import LIMITS, ORDERS

from mdb_engine.exceptions import LimitExceeded, QueryRefused
from mdb_engine.scoped.limits import Limits
from mdb_engine.scoped.rewrite.filters import scope_filter
from mdb_engine.scoped.rewrite.values import _FIXED_SIZES as KEPT
from mdb_engine.scoped.rewrite.values import plain_document, plain_value


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
