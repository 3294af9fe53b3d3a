"""The administrator's commands, beside an operator that runs."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from bson import DatetimeMS, MaxKey, encode
from bson.raw_bson import RawBSONDocument
from support.installation import FAST, MASTER_KEY_SECRET, ROOT, Installation
from support.waiting import wait_until

from mdb_engine.connection.driver import get_driver
from mdb_engine.core.encryption import EnvelopeEncryptionService
from mdb_engine.registry.registry import Registry

pytestmark = pytest.mark.long


def test_a_new_master_key_is_made_everything_wrapped_with_it_and_the_old_one_removed(
    running: Installation,
) -> None:
    for name in ("first", "second"):
        running.apply(name)
        running.wait_condition(name)
    before = running.secret("first-mdb")
    done = running.command(
        *("rotate-master-key", "--settle", "0.1", "--remove-old", "--key-id", "k9"), **FAST
    )
    assert done.returncode == 0, done.stderr
    assert "Everything is wrapped with k9" in done.stdout
    assert running.keyring().ids == ("k9",)
    rows = running.mongo["_mdb_engine_app_secrets"].find({}, {"current.key_id": 1, "key_id": 1})
    assert {"k9"} == {row.get("key_id") or row["current"]["key_id"] for row in rows}
    assert running.secret("first-mdb") == before
    # The operator goes on with the new key alone.
    running.apply("third")
    running.wait_condition("third")
    assert running.command("rotate-master-key", "--settle", "0", "--key-id", "k9").returncode == 1


def test_a_rotation_that_nobody_carries_out_says_how_to_go_on(running: Installation) -> None:
    running.apply("waiting")
    running.wait_condition("waiting")
    running.stop(running.processes[-1])
    done = running.command("rotate-master-key", "--settle", "0", "--timeout", "1")
    assert done.returncode == 1
    assert "rotate-master-key --resume" in done.stderr
    running.start()
    done = running.command("rotate-master-key", "--resume")
    assert done.returncode == 0, done.stderr


def test_a_new_key_that_somebody_takes_out_again_never_wraps_anything(
    running: Installation,
) -> None:
    running.apply("kept")
    running.wait_condition("kept")
    before = running.keyring()
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(
            running.command, "rotate-master-key", "--settle", "60", "--key-id", "k-taken-out"
        )
        wait_until(
            lambda: "k-taken-out" in running.keyring().ids, deadline=30, message="the new key"
        )
        assert running.keyring().active_id == before.active_id
        running.apply("meanwhile")
        running.wait_condition("meanwhile")
        change = {"data": {"k-taken-out": None}}  # as a tool does that has it from elsewhere
        running.cluster.api.patch("Secret", MASTER_KEY_SECRET, change, running.namespace)
        outcome = done.result()
    assert outcome.returncode != 0
    assert "nothing is wrapped with it" in outcome.stderr
    assert running.keyring() == before
    rows = list(running.mongo["_mdb_engine_app_secrets"].find())
    assert {row["key_id"] for row in rows} == {before.active_id}


async def test_old_keys_stay_for_as_long_as_somebody_still_wraps_with_them(
    running: Installation,
) -> None:
    running.apply("late")
    running.wait_condition("late")
    old = running.keyring()
    driver = get_driver("pymongo")
    client = driver.connect(running.server.uri)
    try:
        # An operator that has not seen the new keyring yet.
        late = Registry(client[running.database], driver, EnvelopeEncryptionService(old))
        arguments = ("rotate-master-key", "--settle", "8", "--remove-old", "--key-id", "k-next")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(running.command, *arguments, **FAST)
            for version in (1, 2, 3):
                await late.rotate("late", expected_version=version, overlap_seconds=120)
                await late.revoke_previous("late")
                wait_until(
                    lambda: (
                        running.keyring().active_id == "k-next"
                        and not late_rows(running, old.active_id)
                    ),
                    deadline=60,
                    message="the wrapping of what came late",
                )
                assert old.active_id in running.keyring().ids, "somebody still wraps with it"
            outcome = done.result()
    finally:
        await driver.close(client)
    assert outcome.returncode == 0, outcome.stderr
    assert running.keyring().ids == ("k-next",)
    running.wait_condition("late")
    wait_until(
        lambda: running.secret("late-mdb")["secret-version"] == "4",
        deadline=20,
        message="the last version, opened with the new key",
    )


def late_rows(here: Installation, key_id: str) -> int:
    """Count the rows that are wrapped with a key."""
    return int(here.mongo["_mdb_engine_app_secrets"].count_documents({"key_id": key_id}))


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


def test_a_plan_says_what_a_manifest_would_drop_and_changes_nothing(
    running: Installation, tmp_path: Path
) -> None:
    def index(name: str, field: str, **options: object) -> dict[str, object]:
        return {"name": name, "keys": [{"field": field}], **options}

    running.apply(
        "planned",
        collections=[
            {"name": "c", "indexes": [index("by_a", "a"), index("by_b", "b")]},
            {"name": "d", "indexes": [index("by_x", "x")]},
            {"name": "gone"},
        ],
    )
    running.wait_condition("planned")
    running.mongo["planned_d"].create_index("mine", name="mine")
    wanted = [
        {"name": "c", "indexes": [index("by_a", "a", unique=True)]},
        {"name": "d", "indexes": [index("mine", "other")]},
        {"name": "added"},
    ]
    manifest = running.manifest("planned", collections=wanted)
    file = tmp_path / "planned.yaml"
    file.write_text(yaml.safe_dump(manifest))
    before = [running.mongo[f"planned_{name}"].index_information() for name in ("c", "d")]
    written = running.written_to_mongodb()
    done = running.command("plan", str(file))
    assert done.returncode == 0, done.stderr
    *said, conflict = done.stdout.splitlines()
    assert said == [
        "planned: collection added is made",
        "planned: collection gone is taken from the app; its data and indexes stay",
        "planned: index by_a (a: 1, unique=True) of c is changed in place",
        "planned: index by_b (b: 1) of c is dropped",
    ]
    assert "left alone" in conflict
    assert "no index of d is dropped" in conflict
    after = [running.mongo[f"planned_{name}"].index_information() for name in ("c", "d")]
    assert after == before
    assert running.written_to_mongodb() == written
    assert running.command("plan", str(ROOT / "README.md")).returncode == 1
