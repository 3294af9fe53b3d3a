from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mdb_operator.apps.conditions import (
    Condition,
    ConditionType,
    Reason,
    format_time,
    merge_conditions,
    parse_time,
    transitions,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 987654, tzinfo=UTC)
EARLIER = "2026-03-01T11:00:00Z"


def condition(
    kind: ConditionType = ConditionType.READY,
    status: str = "True",
    reason: Reason = Reason.PROVISIONED,
    message: str = "fine",
    generation: int = 1,
) -> Condition:
    return Condition(kind, status, reason, message, generation)  # type: ignore[arg-type]


def stored(**changes: object) -> dict[str, object]:
    return {**condition().to_dict(), "lastTransitionTime": EARLIER, **changes}


def test_equal_conditions_merge_to_equal_bytes() -> None:
    assert merge_conditions([stored()], [condition()], NOW) == [stored()]


def test_the_transition_time_moves_only_with_the_status() -> None:
    told_otherwise = condition(reason=Reason.GRANT_PENDING, message="other", generation=2)
    [row] = merge_conditions([stored()], [told_otherwise], NOW)
    assert row["lastTransitionTime"] == EARLIER
    assert (row["reason"], row["message"], row["observedGeneration"]) == (
        "GrantPending",
        "other",
        2,
    )
    [row] = merge_conditions([stored()], [condition(status="False")], NOW)
    assert row["lastTransitionTime"] == "2026-03-01T12:00:00Z"


def test_conditions_stand_in_one_order_and_unknown_types_go() -> None:
    old = [stored(type="Abolished"), stored(type="SecretProjected")]
    new = [condition(ConditionType.SECRET_PROJECTED), condition(ConditionType.READY)]
    rows = merge_conditions(old, new, NOW)
    assert [row["type"] for row in rows] == ["Ready", "SecretProjected"]


def test_an_event_is_due_for_status_and_reason_but_not_for_a_message() -> None:
    assert transitions([stored()], [stored(message="longer", observedGeneration=9)]) == []
    changed = stored(reason="Suspended")
    assert transitions([stored()], [changed]) == [changed]
    assert transitions([], [stored()]) == [stored()]


def test_times_survive_the_way_to_the_api_and_back() -> None:
    assert parse_time(format_time(NOW)) == NOW.replace(microsecond=0)
    ahead = NOW.astimezone(tz=None) + timedelta(hours=1)
    assert format_time(ahead) == "2026-03-01T13:00:00Z"


def test_a_long_message_is_cut_to_what_an_event_holds() -> None:
    assert len(condition(message="x" * 5000).to_dict()["message"]) == 1024
