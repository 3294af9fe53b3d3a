"""The election's decisions, on a clock that the test turns; real processes are in integration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mdb_operator.exceptions import AlreadyExists, Conflict, KubernetesUnavailable, NotFound
from mdb_operator.kubernetes.leases import LeaseRecord
from mdb_operator.process.leader import ElectionTimes, LeaderElection


class Server:
    """A Lease with the API server's compare-and-set, and a clock that sleeping turns."""

    namespace = "system"
    name = "leader"

    def __init__(self) -> None:
        self.now = 1000.0
        self.record: LeaseRecord | None = None
        self.down = False
        self.lose_answers = 0
        self.version = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def get(self) -> LeaseRecord | None:
        self._answer()
        return self.record

    async def create(self, record: LeaseRecord) -> LeaseRecord:
        self._answer()
        if self.record is not None:
            raise AlreadyExists("taken")
        return self._store(record)

    async def replace(self, record: LeaseRecord) -> LeaseRecord:
        self._answer()
        if self.record is None:
            raise NotFound("gone")
        if record.resource_version != self.record.resource_version:
            raise Conflict("old")
        return self._store(record)

    def _answer(self) -> None:
        if self.down:
            raise KubernetesUnavailable("no answer")

    def _store(self, record: LeaseRecord) -> LeaseRecord:
        self.version += 1
        self.record = replace(record, resource_version=str(self.version))
        if self.lose_answers:
            self.lose_answers -= 1
            raise KubernetesUnavailable("lost")
        return self.record


@pytest.fixture
def server() -> Server:
    return Server()


def contender(server: Server, name: str) -> LeaderElection:
    return LeaderElection(server, name, clock=server.clock, sleep=server.sleep)  # type: ignore[arg-type]


def holder(server: Server) -> str:
    assert server.record is not None
    return server.record.holder


async def test_a_free_lease_is_taken_at_once(server: Server) -> None:
    await contender(server, "a").acquire()
    assert holder(server) == "a"
    assert server.now == 1000


@pytest.mark.parametrize("renewed", ["1999-01-01T00:00:00.0Z", "2999-01-01T00:00:00.0Z"])
async def test_the_holders_clock_decides_nothing(server: Server, renewed: str) -> None:
    await contender(server, "a").acquire()
    assert server.record is not None
    server.record = replace(server.record, renewed_at=renewed)
    await contender(server, "b").acquire()
    assert holder(server) == "b"
    assert 10 <= server.now - 1000 <= 10 + 2 * 2


async def test_a_lease_that_changes_is_not_taken(server: Server) -> None:
    first, second = contender(server, "a"), contender(server, "b")
    await first.acquire()
    for _ in range(20):
        await server.sleep(2)
        assert await second._try_acquire() is None
        assert await first._renew()
    assert holder(server) == "a"


async def test_a_leader_that_cannot_renew_stops_before_anybody_else_may_start(
    server: Server,
) -> None:
    leader, other = contender(server, "a"), contender(server, "b")
    await leader.acquire()
    assert await other._try_acquire() is None
    server.down = True
    await leader.keep()
    assert server.now - 1000 <= 6
    server.down = False
    assert await other._try_acquire() is None
    await other.acquire()
    assert server.now - 1000 >= 10


async def test_a_short_outage_costs_nothing(server: Server) -> None:
    leader = contender(server, "a")
    await leader.acquire()
    server.down = True
    server.now += 3
    assert await leader._renew()
    server.down = False
    assert await leader._renew()
    assert leader._renewed_at == server.now


async def test_a_leader_notices_that_another_took_over(server: Server) -> None:
    leader = contender(server, "a")
    await leader.acquire()
    assert server.record is not None
    server._store(server.record.taken_by("b", 10))
    await leader.keep()
    assert server.now - 1000 <= 2
    assert holder(server) == "b"


async def test_a_leader_whose_lease_was_annotated_goes_on(server: Server) -> None:
    leader = contender(server, "a")
    await leader.acquire()
    assert server.record is not None
    server._store(server.record)  # a person's annotation: another version, the same holder
    assert await leader._renew()
    assert await leader._renew()


async def test_a_leader_makes_a_lease_that_was_deleted_anew_while_others_wait(
    server: Server,
) -> None:
    leader, other = contender(server, "a"), contender(server, "b")
    await leader.acquire()
    assert await other._try_acquire() is None
    server.record = None
    assert await other._try_acquire() is None, "its holder may be at work"
    assert await leader._renew()
    assert holder(server) == "a"
    assert await other._try_acquire() is None


async def test_a_lease_that_was_deleted_with_its_holder_is_taken_after_its_duration(
    server: Server,
) -> None:
    leader, other = contender(server, "a"), contender(server, "b")
    await leader.acquire()
    assert await other._try_acquire() is None
    server.now += 9
    server.record = None
    gone = server.now
    await other.acquire()
    assert 10 <= server.now - gone <= 10 + 2 * 2


async def test_a_leader_ends_where_another_was_faster_to_make_the_lease_anew(
    server: Server,
) -> None:
    leader = contender(server, "a")
    await leader.acquire()
    server.record = None
    await contender(server, "b").acquire()
    assert not await leader._renew()
    assert holder(server) == "b"


async def test_a_lease_that_was_taken_in_a_request_without_an_answer_is_ours(
    server: Server,
) -> None:
    server.lose_answers = 1
    await contender(server, "a").acquire()
    assert holder(server) == "a"
    assert server.now - 1000 == 2, "one retry, and not the duration"

    server.record = server._store(LeaseRecord.first("", 1))
    server.lose_answers = 1
    before = server.now
    await contender(server, "b").acquire()
    assert holder(server) == "b"
    assert server.now - before == 2


@pytest.mark.parametrize("left", [True, False], ids=["older", "not made yet"])
async def test_a_leader_ends_when_the_api_server_was_restored(server: Server, left: bool) -> None:  # noqa: FBT001
    leader = contender(server, "a")
    server.version = 100
    await leader.acquire()
    assert server.record is not None
    server.record = replace(server.record, resource_version="50") if left else None
    server.version = 50
    assert not await leader._renew()


async def test_a_released_lease_is_taken_at_once(server: Server) -> None:
    leader = contender(server, "a")
    await leader.acquire()
    await leader.release()
    await contender(server, "b").acquire()
    assert holder(server) == "b"
    assert server.now == 1000
    await leader.release()
    assert holder(server) == "b"


async def test_of_many_contenders_one_leads(server: Server) -> None:
    contenders = [contender(server, f"c{number}") for number in range(5)]
    won = [await each._try_acquire() for each in contenders]
    assert sum(record is not None for record in won) == 1


@pytest.mark.parametrize("times", [(5, 6, 2), (10, 10, 2), (10, 6, 6), (10, 6, 0)])
def test_figures_under_which_two_could_lead_are_refused(times: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="retry < renew_deadline < lease"):
        ElectionTimes(*times)
