"""Concerns and preferences are made anew, so that they say only what they were asked for."""

from __future__ import annotations

from typing import Any

import pytest
from bson.codec_options import CodecOptions
from pymongo import ReadPreference
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import Nearest, Secondary
from pymongo.write_concern import WriteConcern
from unit.engine.scoped.apps import LIMITS

from mdb_engine.exceptions import OptionRefused, QueryRefused
from mdb_engine.scoped.concerns import merge_options

MORE = {"w": 1, "level": "local", "mode": "nearest", "insert": "hr_people"}


class LyingWriteConcern(WriteConcern):
    document = MORE


class LyingReadConcern(ReadConcern):
    document = MORE


class LyingPreference(Secondary):
    document = MORE


class LyingCodec(CodecOptions[Any]):
    document_class = dict


def merged(**options: Any) -> dict[str, Any]:
    return dict(merge_options({}, options, LIMITS))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("write_concern", WriteConcern(w="majority", wtimeout=5, j=True)),
        ("read_concern", ReadConcern("majority")),
        ("read_preference", ReadPreference.PRIMARY),
        ("read_preference", ReadPreference.PRIMARY_PREFERRED),
        ("read_preference", ReadPreference.SECONDARY),
        ("read_preference", ReadPreference.SECONDARY_PREFERRED),
        ("read_preference", Nearest([{"dc": "a"}, {}], 120)),
        ("codec_options", CodecOptions(tz_aware=True)),
    ],
)
def test_options_are_equal_to_what_was_given(name: str, value: Any) -> None:
    assert merged(**{name: value}) == {name: value}


def test_a_subclass_cannot_add_to_the_command() -> None:
    for bad in (
        {"write_concern": LyingWriteConcern(1)},
        {"read_concern": LyingReadConcern("local")},
        {"codec_options": LyingCodec()},
        {"read_preference": object()},
    ):
        with pytest.raises(OptionRefused, match=next(iter(bad))):
            merged(**bad)
    preference = merged(read_preference=LyingPreference())["read_preference"]
    assert (type(preference), preference.document) == (Secondary, {"mode": "secondary"})


def test_what_is_put_into_a_concern_later_is_not_sent() -> None:
    concern = WriteConcern(1)
    kept = merged(write_concern=concern)["write_concern"]
    vars(WriteConcern)["_WriteConcern__document"].__set__(concern, MORE)
    assert concern.document == MORE
    assert kept.document == {"w": 1}
    assert merged(write_concern=concern)["write_concern"].document == {"w": 1}


def test_tags_are_copied() -> None:
    tags = [{"dc": "a"}]
    kept = merged(read_preference=Nearest(tags))["read_preference"]
    tags[0]["dc"] = "b"
    assert kept.tag_sets == [{"dc": "a"}]
    with pytest.raises(QueryRefused):
        merged(read_preference=Nearest([{"dc": object()}]))
