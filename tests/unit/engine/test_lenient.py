"""A manifest of the earlier version: what is read of it, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from mdb_engine.exceptions import ManifestInvalid
from mdb_engine.models.lenient import read_leniently
from mdb_engine.models.manifest import Manifest

CHAT: dict[str, Any] = {
    "version": "2.0",
    "slug": "chat",
    "name": "Chat",
    "status": "active",
    "auth": {
        "policy": {"required": False, "allow_anonymous": True},
        "users": {"enabled": True, "demo_users": [{"email": "a@b.c", "password": "hunter2"}]},
    },
    "token_management": {"enabled": True},
    "memory_config": {"enabled": True, "collection_name": "chat_memories"},
    "graph_config": {"enabled": True, "collection_name": "__kg"},
    "initial_data": {"rooms": [{"name": "hall"}]},
    "collections": {"posts": {"auto_crud": True, "schema": {"type": "object"}}},
    "managed_indexes": {
        "messages": [
            {"type": "regular", "name": "by_time", "keys": {"at": -1}},
            {"type": "nonsense", "name": "first_bad"},
            {"type": "nonsense", "name": "second_bad"},
            {
                "type": "ttl",
                "name": "ends",
                "keys": {"at": 1},
                "options": {"expireAfterSeconds": 9},
            },
        ]
    },
    "websockets": {"realtime": {"path": "/ws"}},
    "cors": {"enabled": True, "allow_origins": ["*"], "unheard_of": 1},
}


def test_what_has_a_place_is_kept_and_each_of_the_rest_is_named() -> None:
    manifest, left = read_leniently(CHAT)
    spec = manifest.to_spec()
    assert spec.slug == "chat"
    assert spec.display_name == "Chat"
    messages = next(one for one in spec.collections if one.name == "messages")
    assert [index.name for index in messages.indexes] == ["by_time", "ends"]
    assert set(spec.collection_names) == {"messages", "users", "memories", "rooms", "posts"}
    paths = {one.path for one in left}
    assert {"auth.users", "token_management", "initial_data", "websockets", "version"} <= paths
    assert {"managed_indexes.messages.first_bad", "managed_indexes.messages.second_bad"} <= paths
    assert all(one.advice for one in left)


def test_what_is_left_out_is_said_without_what_stood_there() -> None:
    _, left = read_leniently(CHAT)
    assert "hunter2" not in " ".join(map(str, left))


def test_the_result_is_a_manifest_that_is_valid_in_full() -> None:
    manifest, _ = read_leniently(CHAT)
    Manifest.load(manifest.model_dump(mode="json", exclude_defaults=True))


def test_a_manifest_of_this_version_loses_nothing() -> None:
    data = {"slug": "a", "managed_indexes": {"c": [{"keys": {"x": 1}}]}, "name": "A"}
    manifest, left = read_leniently(data)
    assert (manifest, left) == (Manifest.load(data), ())


@pytest.mark.parametrize(
    "access",
    [
        {"read_scopes": ["a", "b"], "cross_app_policy": "deny_everything"},
        {"read_scopes": ["b"]},
        {"read_scopes": ["a"], "write_scope": "b"},
        {"read_scopes": ["a", "NOT A SLUG"], "cross_app_policy": "deny_all"},
        "all",
    ],
)
def test_access_that_cannot_be_read_is_narrowed_and_never_widened(access: Any) -> None:
    manifest, left = read_leniently({"slug": "a", "data_access": access})
    assert manifest.to_spec().denies_all
    assert manifest.read_scopes == ("a",)
    assert [one.path for one in left] == ["data_access"]


@pytest.mark.parametrize("data", [{}, {"slug": "_x"}, {"slug": "x" * 60}, {"slug": 7}])
def test_without_a_valid_slug_nothing_is_made_of_it(data: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        read_leniently(data)
    assert caught.value.path == "slug"


@pytest.mark.parametrize("indexes", [[], "x", {"c": "x"}, {"no.good": []}, {"c": [7, None]}])
def test_indexes_of_any_shape_end(indexes: Any) -> None:
    manifest, left = read_leniently({"slug": "a", "managed_indexes": indexes})
    assert manifest.slug == "a"
    assert left
