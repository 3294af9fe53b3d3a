"""Credentials change with an overlap, once for each request, whoever asks at the same time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from support.registry import Registries, owner, spec

from mdb_engine.constants import MAX_SECRET_VERSIONS, SECRETS_COLLECTION
from mdb_engine.core.clock import utcnow
from mdb_engine.core.secret import RevealedSecrets, RotationOutcome, RotationResult
from mdb_engine.exceptions import MasterKeyError, NotRegistered, VersionConflict
from mdb_engine.registry.registry import Registry
from mdb_engine.registry.secrets import REVOKE_PREVIOUS, ROTATE, verifier_of

ROTATED, DONE, WAITING = RotationResult.ROTATED, RotationResult.ALREADY_DONE, RotationResult.WAITING


def values(revealed: RevealedSecrets) -> set[str]:
    current = revealed.current
    return {
        secret.get_secret_value()
        for secret in (current.token, current.session_key, current.database_password)
    }


async def test_a_rotation_makes_all_values_new_and_keeps_the_old_for_the_overlap(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a"))
    before = await registry.secrets.reveal("a")
    assert (before.version, before.previous, before.key_id) == (1, None, "k1")
    assert len(values(before)) == 3
    assert all(len(value) == 43 for value in values(before))
    outcome = await registry.rotate("a", expected_version=1, overlap_seconds=600)
    assert outcome == RotationOutcome(ROTATED, 2)
    after = await registry.secrets.reveal("a")
    assert after.version == 2
    assert not values(after) & values(before)
    assert after.previous is not None
    assert after.previous.token == before.current.token
    assert after.previous_expires_at == after.rotated_at + timedelta(seconds=600)
    newest, oldest = registries.grant("a")["verifiers"]
    assert newest == {
        "sha256": verifier_of(after.current.token.get_secret_value()),
        "version": 2,
        "not_after": None,
    }
    assert oldest["sha256"] == verifier_of(before.current.token.get_secret_value())
    assert oldest["not_after"] is not None


async def test_a_request_is_served_once(registries: Registries, registry: Registry) -> None:
    await registry.register(spec("a"))
    first = await registry.rotate("a", expected_version=1, overlap_seconds=600, request="monday")
    registries.writes.seen.clear()
    for seen in (1, 2):
        again = await registry.rotate(
            "a", expected_version=seen, overlap_seconds=600, request="monday"
        )
        assert again == RotationOutcome(DONE, 2)
    assert registries.writes.seen == []
    other = await registry.rotate("a", expected_version=2, overlap_seconds=600, request="friday")
    assert [first.result, other.result] == [ROTATED, ROTATED]


async def test_a_request_from_before_the_secret_is_none(registry: Registry) -> None:
    record = await registry.claim(spec("a"), owner("a"))
    handled = {ROTATE: "old", REVOKE_PREVIOUS: "old"}
    await registry.secrets.ensure(record, handled=handled)
    outcome = await registry.rotate("a", expected_version=1, overlap_seconds=600, request="old")
    assert outcome == RotationOutcome(DONE, 1)
    assert not await registry.revoke_previous("a", request="old")


@pytest.mark.parametrize("request_value", [None, "monday"])
async def test_of_many_rotations_at_once_one_is_done(
    registries: Registries, request_value: str | None
) -> None:
    processes = [registries.connect() for _ in range(4)]
    await processes[0].register(spec("a"))
    done = await asyncio.gather(
        *(
            processes[n % 4].rotate(
                "a", expected_version=1, overlap_seconds=600, request=request_value
            )
            for n in range(12)
        ),
        return_exceptions=True,
    )
    outcomes = [one for one in done if isinstance(one, RotationOutcome)]
    assert [one.result for one in outcomes].count(ROTATED) == 1
    assert all(one.version == 2 for one in outcomes)
    assert all(isinstance(one, RotationOutcome | VersionConflict) for one in done)
    (secret,) = registries.documents(SECRETS_COLLECTION)
    assert (secret["version"], secret["rotation_count"]) == (2, 1)
    assert registries.versions_accepted("a") == [2, 1]


async def test_a_rotation_that_saw_another_version_is_refused(registry: Registry) -> None:
    await registry.register(spec("a"))
    with pytest.raises(VersionConflict, match="version 1, not 7"):
        await registry.rotate("a", expected_version=7, overlap_seconds=600)
    with pytest.raises(NotRegistered):
        await registry.rotate("nobody", expected_version=1, overlap_seconds=600)


async def test_versions_stay_valid_until_their_own_expiry_and_a_sixth_waits(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a"))
    overlaps = [600, 300, 900, 120]
    for version, overlap in enumerate(overlaps, start=1):
        await registry.rotate("a", expected_version=version, overlap_seconds=overlap)
    assert registries.versions_accepted("a") == [5, 4, 3, 2, 1]
    assert len(overlaps) + 1 == MAX_SECRET_VERSIONS
    waiting = await registry.rotate("a", expected_version=5, overlap_seconds=600, request="sixth")
    record = await registry.secrets.get("a")
    assert record is not None
    assert waiting == RotationOutcome(WAITING, 5, retry_at=record.previous[0].expires_at)
    assert waiting.retry_at is not None
    assert not await registry.secrets.expire("a", now=waiting.retry_at - timedelta(seconds=1))
    later = await registry.secrets.rotate(
        "a",
        expected_version=5,
        overlap_seconds=600,
        request="sixth",
        now=waiting.retry_at,
    )
    assert later == RotationOutcome(ROTATED, 6)
    await registry.publish("a")
    assert registries.versions_accepted("a") == [6, 5, 3, 2, 1]
    revealed = await registry.secrets.reveal("a")
    assert [one.version for one in revealed.earlier] == [5, 3, 2, 1]


async def test_expired_versions_end_in_rows_and_verifiers(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a"))
    await registry.rotate("a", expected_version=1, overlap_seconds=0)
    revealed = await registry.secrets.reveal("a")
    assert (revealed.previous, revealed.previous_expires_at) == (None, None)
    assert await registry.expire("a")
    assert registries.documents(SECRETS_COLLECTION)[0]["previous"] == []
    assert registries.versions_accepted("a") == [2]
    registries.writes.seen.clear()
    assert not await registry.expire("a")
    assert registries.writes.seen == []


async def test_the_version_before_the_current_is_previous_even_when_it_ended_first(
    registry: Registry,
) -> None:
    await registry.register(spec("a"))
    await registry.rotate("a", expected_version=1, overlap_seconds=600)
    await registry.rotate("a", expected_version=2, overlap_seconds=0)
    revealed = await registry.secrets.reveal("a")
    assert [one.version for one in revealed.earlier] == [1]
    assert revealed.previous is None


async def test_a_leaked_secret_ends_at_once(registries: Registries, registry: Registry) -> None:
    await registry.register(spec("a"))
    for version in (1, 2):
        await registry.rotate("a", expected_version=version, overlap_seconds=600)
    assert await registry.revoke_previous("a", request="leak")
    assert registries.versions_accepted("a") == [3]
    await registry.rotate("a", expected_version=3, overlap_seconds=600)
    assert not await registry.revoke_previous("a", request="leak")
    assert registries.versions_accepted("a") == [4, 3]


async def test_credentials_left_behind_by_an_earlier_registration_are_void(
    registries: Registries, registry: Registry
) -> None:
    record = await registry.claim(spec("a"), owner("a"))
    old = await registry.secrets.ensure(record)
    await registry.publish("a")
    assert await registry.revoke("a", owner("a"))
    assert await registry.erase("a", owner("a"), delete_data=True)
    await registry.secrets.ensure(record)  # by an operator that was too slow
    renewed = await registry.claim(spec("a"), owner("a", uid="2"))
    assert not (await registry.publish("a")).epoch
    made = await registry.secrets.ensure(renewed)
    assert made.current.verifier != old.current.verifier
    assert made.current.version == 2
    await registry.publish("a")
    assert registries.versions_accepted("a") == [2]


async def test_what_holds_credentials_does_not_show_them(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a"))
    await registry.rotate("a", expected_version=1, overlap_seconds=600)
    revealed = await registry.secrets.reveal("a")
    record = await registry.secrets.get("a")
    shown = repr(revealed) + str(revealed.current) + repr(record)
    stored = repr(registries.documents(SECRETS_COLLECTION))
    for value in values(revealed):
        assert value not in shown
        assert value not in stored
    assert record is not None
    assert repr(record.current.verifier) not in shown


async def test_times_are_aware(registry: Registry) -> None:
    done = await registry.register(spec("a"))
    revealed = await registry.secrets.reveal("a")
    assert abs(utcnow() - revealed.rotated_at) < timedelta(minutes=1)
    assert abs(utcnow() - done.record.created_at) < timedelta(minutes=1)


async def test_a_row_that_lacks_a_value_is_said_so(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a"))
    database = registries.database
    rows = database.client[database.name][SECRETS_COLLECTION]
    rows.update_one({"_id": "a"}, {"$unset": {"encrypted_session_key": 1}})
    with pytest.raises(MasterKeyError, match=r"session.key of app 'a'.* is missing"):
        await registry.secrets.reveal("a")


async def test_what_was_issued_after_a_backup_is_superseded_and_what_was_before_ends(
    registries: Registries, registry: Registry
) -> None:
    await registry.register(spec("a"))
    await registry.rotate("a", expected_version=1, overlap_seconds=600)
    assert await registry.supersede("a", issued=5)
    revealed = await registry.secrets.reveal("a")
    assert (revealed.version, revealed.earlier) == (6, ())
    assert registries.versions_accepted("a") == [6]
    assert not await registry.supersede("a", issued=5)
    assert not await registry.supersede("a", issued=6)
    assert registries.versions_accepted("a") == [6]
