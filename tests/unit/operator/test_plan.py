"""What is to be done, as a table of what was seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mdb_engine.models.app import AppRecord, AppState, Owner
from mdb_engine.models.secret import Envelope, SealedVersion, SecretRecord
from mdb_engine.models.spec import MdbAppSpec
from mdb_operator.apps.plan import Observation, Plan, Rotation, Step
from mdb_operator.apps.planning import plan
from mdb_operator.apps.resource import MdbAppResource

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROTATE = "mdb-engine.dev/rotate-requested"
REVOKE = "mdb-engine.dev/revoke-previous"
FINALIZER = "mdb-engine.dev/deregister"

USUAL = (
    Step.CLAIM,
    Step.COLLECTIONS,
    Step.SECRET,
    Step.GRANTS,
    Step.DATABASE_USER,
    Step.PROJECT,
)


def resource(
    spec: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
    **metadata: Any,
) -> MdbAppResource:
    return MdbAppResource.from_body(
        {
            "metadata": {
                "namespace": "shop",
                "name": "orders",
                "uid": "u1",
                "generation": 1,
                "finalizers": [FINALIZER],
                "annotations": annotations or {},
                **metadata,
            },
            "spec": {"slug": "orders", **(spec or {})},
            "status": status or {},
        }
    )


def sealed(version: int, created: datetime, expires: datetime | None = None) -> SealedVersion:
    return SealedVersion(version, Envelope("k1", "d", b"", {}), b"", created, expires)


def seen(
    app: MdbAppResource,
    *,
    age: float | None = 60,
    expiries: tuple[float, ...] = (),
    handled: dict[str, str] | None = None,
    owner: Owner | None = None,
    incarnations: tuple[Any, Any] = ("i", "i"),
) -> Observation:
    """Return an observation: of credentials that are ``age`` seconds old, or of none."""
    spec = MdbAppSpec.parse(app.spec)
    if age is None:
        return Observation(app, spec)
    created = NOW - timedelta(seconds=age)
    version = len(expiries) + 1
    record = AppRecord(
        slug="orders",
        owner=owner or Owner("shop", "orders", "u1"),
        state=AppState.ACTIVE,
        spec=spec,
        generation=1,
        incarnation=incarnations[0],
        claims=frozenset(),
        created_at=created,
        updated_at=created,
    )
    secrets = SecretRecord(
        slug="orders",
        incarnation=incarnations[1],
        current=sealed(version, created),
        previous=tuple(
            sealed(version - 1 - index, created, NOW + timedelta(seconds=left))
            for index, left in enumerate(expiries)
        ),
        rotation_count=0,
        created_at=created,
        updated_at=created,
        handled=handled or {},
    )
    return Observation(app, spec, record, secrets)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


CASES: dict[str, tuple[Observation, Plan]] = {
    "a new app is held first, and its annotations count as served": (
        seen(resource(annotations={ROTATE: "a", REVOKE: "b"}, finalizers=[]), age=None),
        Plan(steps=(Step.HOLD, *USUAL), handled={"rotate": "a", "revoke-previous": "b"}),
    ),
    "an app that is as it should be goes through the idempotent steps": (
        seen(resource()),
        Plan(steps=USUAL),
    ),
    "a new value asks for a rotation, fenced by the version that was seen": (
        seen(resource(annotations={ROTATE: "b"}), handled={"rotate": "a"}),
        Plan(
            steps=(*USUAL[:3], Step.ROTATE, *USUAL[3:]),
            handled={"rotate": "b"},
            rotation=Rotation(1, "b"),
        ),
    ),
    "a value that was served asks for nothing": (
        seen(resource(annotations={ROTATE: "a"}), handled={"rotate": "a"}),
        Plan(steps=USUAL, handled={"rotate": "a"}),
    ),
    "an annotation that was removed asks for nothing": (
        seen(resource(), handled={"rotate": "a"}),
        Plan(steps=USUAL),
    ),
    "a period that is over rotates": (
        seen(resource({"secret": {"rotationPeriodSeconds": 600}}), age=600),
        Plan(steps=(*USUAL[:3], Step.ROTATE, *USUAL[3:]), rotation=Rotation(1, None)),
    ),
    "a period that is not over is waited for": (
        seen(resource({"secret": {"rotationPeriodSeconds": 600}}), age=590),
        Plan(steps=USUAL, wake_at=at(10)),
    ),
    "a request comes before the period, and is one rotation": (
        seen(
            resource({"secret": {"rotationPeriodSeconds": 600}}, annotations={ROTATE: "b"}),
            age=700,
        ),
        Plan(
            steps=(*USUAL[:3], Step.ROTATE, *USUAL[3:]),
            handled={"rotate": "b"},
            rotation=Rotation(1, "b"),
        ),
    ),
    "an overlap is waited for until its end": (
        seen(resource(), expiries=(30.0, 20.0)),
        Plan(steps=USUAL, wake_at=at(20)),
    ),
    "an overlap that is over ends": (
        seen(resource(), expiries=(30.0, -1.0)),
        # What comes next is planned again from what is left afterwards.
        Plan(steps=(*USUAL[:3], Step.EXPIRE, *USUAL[3:]), wake_at=None),
    ),
    "a revocation ends all earlier versions, after the rotation that was asked for with it": (
        seen(resource(annotations={ROTATE: "b", REVOKE: "r"}), expiries=(30.0,)),
        Plan(
            steps=(*USUAL[:3], Step.ROTATE, Step.REVOKE_PREVIOUS, *USUAL[3:]),
            handled={"rotate": "b", "revoke-previous": "r"},
            rotation=Rotation(2, "b"),
            revocation="r",
            wake_at=at(30),
        ),
    ),
    "credentials of an earlier incarnation are not rotated: new ones are made": (
        seen(resource(annotations={ROTATE: "b"}), incarnations=("new", "old")),
        Plan(steps=USUAL, handled={"rotate": "b"}),
    ),
    "another owner's credentials are not touched": (
        seen(resource(annotations={ROTATE: "b"}), owner=Owner("shop", "orders", "u0")),
        Plan(steps=USUAL, handled={"rotate": "b"}),
    ),
    "a Secret's former name is retired after the new one is projected": (
        seen(resource({"secret": {"name": "new"}}, status={"binding": {"name": "old"}})),
        Plan(steps=(*USUAL, Step.RETIRE), retire="old"),
    ),
    "workloads are looked at last": (
        seen(resource({"restart": [{"kind": "Deployment", "name": "orders"}]})),
        Plan(steps=(*USUAL, Step.RESTART)),
    ),
    "a suspended app is left alone": (
        seen(resource({"suspend": True}, annotations={ROTATE: "b"}), expiries=(-1.0,)),
        Plan(),
    ),
    "a suspended app can be deleted": (
        seen(resource({"suspend": True}, deletionTimestamp="2026-03-01T12:00:00Z")),
        Plan(
            steps=(Step.REVOKE, Step.DROP_USERS, Step.ERASE, Step.UNPROJECT, Step.LET_GO),
        ),
    ),
    "an app that only others still hold is not ours any more": (
        seen(resource(deletionTimestamp="2026-03-01T12:00:00Z", finalizers=["else.where/x"])),
        Plan(),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_plan(case: str) -> None:
    observation, wanted = CASES[case]
    assert plan(observation, NOW) == wanted


def test_a_request_of_any_length_is_one_and_is_kept_short() -> None:
    long = "x" * 200_000
    first = plan(seen(resource(annotations={ROTATE: long})), NOW).rotation
    assert first is not None
    assert first.request is not None
    assert len(first.request) < 100
    served = {"rotate": first.request}
    assert plan(seen(resource(annotations={ROTATE: long}), handled=served), NOW).rotation is None
    other = plan(seen(resource(annotations={ROTATE: f"{long}y"}), handled=served), NOW).rotation
    assert other is not None


def test_every_plan_keeps_the_order_of_the_steps() -> None:
    order = list(Step)
    for observation, _ in CASES.values():
        steps = plan(observation, NOW).steps
        assert list(steps) == sorted(steps, key=order.index)


def test_planning_twice_is_planning_once() -> None:
    for observation, _ in CASES.values():
        assert plan(observation, NOW) == plan(observation, NOW)
