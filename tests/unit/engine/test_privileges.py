"""What an app may do in MongoDB itself."""

from mdb_engine.access.model import Grant
from mdb_engine.registry.models.privileges import (
    OWN_ACTIONS,
    Privileges,
    app_privileges,
    role_name,
    slug_of_role,
    user_name,
    version_of_user,
)


def grant(slug: str, *collections: str) -> Grant:
    return Grant(
        slug=slug,
        verifiers=(),
        read_scopes=frozenset({slug}),
        write_scope=slug,
        collections=frozenset(collections),
        epoch=1,
    )


def test_an_app_writes_its_own_collections_and_reads_the_granted_ones() -> None:
    wanted = app_privileges(
        "dash", ["reports"], [grant("shop", "clicks"), grant("dash", "reports")]
    )
    assert dict(wanted.by_collection) == {
        "dash_reports": OWN_ACTIONS,
        "shop_clicks": {"find", "changeStream"},
        "_mdb_engine_grants": {"find", "changeStream"},
        "_mdb_engine_audit": {"insert"},
    }


def test_no_action_reaches_past_a_collection() -> None:
    forbidden = {"collMod", "bypassDocumentValidation", "renameCollectionSameDB", "anyAction"}
    assert not OWN_ACTIONS & forbidden


def test_an_own_collection_wins_over_a_granted_one_of_the_same_name() -> None:
    wanted = app_privileges("a_b", ["c"], [grant("a", "b_c")])
    assert wanted.by_collection["a_b_c"] == OWN_ACTIONS


def test_privileges_survive_the_way_through_mongodb() -> None:
    wanted = app_privileges("dash", ["reports"], [grant("shop", "clicks")])
    assert Privileges.from_documents(wanted.documents("mdb")) == wanted


def test_a_privilege_on_all_collections_is_seen_as_too_much() -> None:
    wide = Privileges.from_documents(
        [{"resource": {"db": "mdb", "collection": ""}, "actions": ["find"]}]
    )
    assert wide.without(app_privileges("dash", [], [])) == wide


def test_a_difference_names_only_what_differs() -> None:
    before = Privileges({"a": frozenset({"find", "insert"}), "b": frozenset({"find"})})
    after = Privileges({"a": frozenset({"find"}), "c": frozenset({"find"})})
    assert before.without(after) == Privileges(
        {"a": frozenset({"insert"}), "b": frozenset({"find"})}
    )
    assert after.without(before) == Privileges({"c": frozenset({"find"})})


def test_names_of_users_and_roles_can_be_read_back() -> None:
    assert slug_of_role(role_name("shop")) == "shop"
    assert slug_of_role("readWrite") is None
    assert version_of_user(user_name("shop", 12), "shop") == 12
    assert version_of_user("shop.v12", "sho") is None
    assert version_of_user("shop.v0", "shop") is None
