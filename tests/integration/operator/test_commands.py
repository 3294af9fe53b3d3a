"""The administrator's commands, beside an operator that runs."""

from __future__ import annotations

import datetime as dt

from bson import DatetimeMS, MaxKey, encode
from bson.raw_bson import RawBSONDocument
from support.installation import Installation


def test_a_new_master_key_is_made_everything_wrapped_with_it_and_the_old_one_removed(
    running: Installation,
) -> None:
    for name in ("first", "second"):
        running.apply(name)
        running.wait_condition(name)
    before = running.secret("first-mdb")
    done = running.command("rotate-master-key", "--remove-old", "--key-id", "k9")
    assert done.returncode == 0, done.stderr
    assert "Everything is wrapped with k9" in done.stdout
    assert running.keyring().ids == ("k9",)
    rows = running.mongo["_mdb_engine_app_secrets"].find({}, {"current.key_id": 1, "key_id": 1})
    assert {"k9"} == {row.get("key_id") or row["current"]["key_id"] for row in rows}
    assert running.secret("first-mdb") == before
    # The operator goes on with the new key alone.
    running.apply("third")
    running.wait_condition("third")
    assert running.command("rotate-master-key", "--key-id", "k9").returncode == 1


def test_a_rotation_that_nobody_carries_out_says_how_to_go_on(running: Installation) -> None:
    running.apply("waiting")
    running.wait_condition("waiting")
    running.stop(running.processes[-1])
    done = running.command("rotate-master-key", "--timeout", "1")
    assert done.returncode == 1
    assert "rotate-master-key --resume" in done.stderr
    running.start()
    done = running.command("rotate-master-key", "--resume")
    assert done.returncode == 0, done.stderr


def test_no_event_that_an_app_made_up_hides_the_others_or_steers_the_terminal(
    running: Installation,
) -> None:
    now = dt.datetime.now(dt.UTC)
    good = {"event": "denied", "slug": "spy", "operation": "find", "collection": "x", "count": 2}
    far = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
    running.mongo["_mdb_engine_audit"].insert_many(
        [
            {**good, "at": now - dt.timedelta(seconds=1), "message": "not granted"},
            {**good, "at": MaxKey()},
            {**good, "at": far},
            {**good, "at": now, "message": "x" * 20_000},
            {**good, "at": now, "first_at": DatetimeMS(2**60), "operation": 7, "collection": {}},
            {**good, "at": now, "count": "many", "message": "\x1b[2J\n2026-01-01 denied other"},
            RawBSONDocument(encode({**good, "at": now, "message": "A!"}).replace(b"A!", b"\xff!")),
        ]
    )
    done = running.command("audit", "--denied", "--app", "spy", "--limit", "4")
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first.endswith(" denied spy find x x2: not granted")
    assert {line.partition(" ")[2] for line in others} == {
        "denied spy 7 {} x2",
        "denied spy find x: \\x1b[2J\\n2026-01-01 denied other",
        "denied spy find x x2: \N{REPLACEMENT CHARACTER}!",
    }


def test_a_retained_slug_is_released_to_its_heir_only_by_an_administrator(
    running: Installation,
) -> None:
    running.apply("kept", collections=[{"name": "rows"}])
    running.wait_condition("kept")
    running.mongo["kept_rows"].insert_one({"app_id": "kept"})
    running.kubectl("delete", "mdbapp", "kept", "--timeout=30s")
    refused = running.command("release", "kept")
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    both = running.command("release", "kept", "--heir", "newshop", "--delete-data")
    assert both.returncode == 2
    assert running.mongo["kept_rows"].count_documents({}) == 1
    done = running.command("release", "kept", "--delete-data")
    assert done.returncode == 0, done.stderr
    assert "kept_rows" not in running.mongo.list_collection_names()
    assert running.command("release", "never-there").returncode == 1
