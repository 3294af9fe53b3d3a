"""What up to 100,000 apps and 10,000 pods cost, on paper: from what was measured and counted.

``PYTHONPATH=tests python -m bench.scaling`` prints the tables that docs/scaling.md shows. What runs
at once is simulated as queues: the workers of each operator take one app after the other, and each
command or request of it needs the operator's one thread first, then a core of whoever answers.
What only adds up is added up. Of a run that it is compared with, it knows processor time at most.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from heapq import heappop, heappush
from itertools import chain, count, product
from pathlib import Path
from typing import Any, Final

import bson

from mdb_engine.access.grant_cache import READINGS, SLUGS_SECONDS
from mdb_engine.constants import GRANT_TTL_SECONDS

__all__ = [
    "CONSTANTS", "CREATE", "LOOK", "ROTATE", "UNCHANGED", "Constants", "Step", "limits_rows",
    "mongodb_rows", "operator_rows", "slug", "slugs_bytes", "validation_rows",
]  # fmt: skip


@dataclass(frozen=True)
class Constants:
    """Every figure that the simulation takes."""

    operator_call_ms: float = 0.7
    """ms of the operator's processor for a command or request with all that belongs to it: 27 ms an
    app with 33 + 6 of them (`database`), 20 with 23 + 6 (`library`), in the runs of 1,000 below"""
    read_ms: float = 0.41
    """ms of a core for a command that reads: `find_one` by `_id` in
    [benchmarks](benchmarks.md#operations), with the client's part, so rather too much"""
    write_ms: float = 0.93
    """ms of a core for a command that writes: `insert_one` there"""
    create_user_ms: float = 19.0
    """ms of a core for `createUser`: 17 to 21, MongoDB's own, in the runs of 1,000 below"""
    floor_ms: float = 7.6
    """ms for each object with kopf alone, on two cores: 1,000 took 7.6 s"""
    hub_reader_ms: float = 5.3
    """ms for each reader of an app that gets a collection: 1.6 s for 300 of them in
    [commands and requests](benchmarks-operator.md#commands-and-requests)"""
    operator_mb: float = 94.0
    """MB of an operator with two apps, in [sizing](operations.md#sizing)"""
    app_kib: float = 6.0
    """KiB of an app in the operator's cache, in [memory](benchmarks-operator.md#memory)"""
    series: int = 3
    """series of an app in `/metrics`, in [metrics](operations.md#metrics-and-alerts)"""
    series_us: float = 10.6
    """µs of the operator's thread for a series of one scrape: 0.37 s for 5,000 apps of 7 series"""
    pod_core_percent: float = 0.0555
    """% of a core of `mongod` for a pod at rest: 11.84 less 0.75 with 200, in
    [a thousand pods](benchmarks.md#a-thousand-pods)"""
    pod_mb: float = 0.525
    """MB of `mongod` for a pod at rest: 240 less 135 with 200, in the same table"""
    role_bytes: float = 173.0
    """bytes of a role in the reply to `rolesInfo: 1`; counted by `test_reply_sizes.py`"""
    user_bytes: float = 334.0
    """bytes of a user in the reply to `usersInfo` by a filter; counted there, too"""
    object_bytes: int = 6_000
    """bytes of an MdbApp and its Secret as JSON; counted by `test_counts.py`"""
    sweep_commands: float = 0.24
    """commands of a sweep for an app: 6 for 25 in
    [commands and requests](benchmarks-operator.md#commands-and-requests)"""
    tables: int = 3
    """WiredTiger's files of an app with a collection and an index: the third is `_id`'s"""
    workers: int = 8
    """apps that an operator works on at once: `concurrency` in the
    [chart](reference.md#chart-values)"""
    resync_s: float = 600.0
    """s between two looks at an app to which nothing happened: `resyncSeconds` there"""
    cores: int = 4
    """cores of MongoDB, and as many of the API server with etcd: assumed"""
    bench_cores: int = 2
    """cores that the measured runs shared among all"""


CONSTANTS: Final = Constants()


@dataclass(frozen=True)
class Step:
    """Commands and requests of something that happens to one app."""

    reads: int = 0
    writes: int = 0
    users: int = 0  # `createUser`
    requests: int = 0  # to the API server, by the operator
    asked: int = 0  # by whoever wants it

    @property
    def commands(self) -> int:
        """Commands to MongoDB."""
        return self.reads + self.writes + self.users


# As tests/integration/operator/test_counts.py counts them; a library's are at most these.
CREATE: Final = Step(reads=21, writes=8, users=1, requests=6, asked=1)
CREATE_LIBRARY: Final = Step(reads=15, writes=6, requests=6, asked=1)
LOOK: Final = Step(reads=11, requests=1)
ROTATE: Final = Step(reads=23, writes=4, users=1, requests=4, asked=1)
UNCHANGED: Final = Step(reads=1)
FLOOR: Final = Step(requests=3, asked=1)  # a Secret, and two patches that kopf sends

SIMULATED: Final = 400
"""Apps of one simulation; a longer one goes on as it did, since the workers are always busy."""
SIZES: Final = (1_000, 10_000, 100_000)
SHARDS: Final = (1, 4, 10)
APPS_A_POD: Final = 10
MOST_BYTES: Final = 16 << 20  # of a document, so of a reply without a cursor
KEPT: Final = Path(__file__).resolve().parents[2] / "docs/benchmarks-operator.json"


@dataclass
class Station:
    """Something that serves as many at once as it has places, the others in their order."""

    free: int
    waiting: deque[Iterator[Station | float]] = field(default_factory=deque)


class Queues:
    """Processes that wait for places and for time to pass, as generators of both."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Iterator[Station | float]]] = []
        self._order = count()

    def start(self, process: Iterator[Station | float], after: float = 0.0) -> None:
        """Let a process go on after some ms."""
        heappush(self._due, (self.now + after, next(self._order), process))

    def leave(self, station: Station) -> None:
        """Give a place to the next who waits."""
        if station.waiting:
            self.start(station.waiting.popleft())
        else:
            station.free += 1

    def run(self) -> float:
        """Return the ms until nobody has anything left to do."""
        while self._due:
            self.now, _, process = heappop(self._due)
            wanted = next(process, None)
            if isinstance(wanted, Station):
                if wanted.free:
                    wanted.free -= 1
                    self.start(process)
                else:
                    wanted.waiting.append(process)
            elif wanted is not None:
                self.start(process, wanted)
        return self.now


Service = tuple[Sequence[Station], float]
"""What is held for so many ms."""


def _worker(
    queues: Queues, apps: Iterator[int], services: Sequence[Service]
) -> Iterator[Station | float]:
    for _ in apps:
        for stations, ms in services:
            yield from stations
            yield ms
            for station in stations:
                queues.leave(station)


def request_ms(given: Constants = CONSTANTS) -> float:
    """Return the ms of a core for a request to the API server: what kopf alone leaves of two."""
    calls = FLOOR.requests + FLOOR.asked
    own = FLOOR.requests * given.operator_call_ms
    return (given.bench_cores * given.floor_ms - own) / calls


@cache
def ms_an_app(step: Step, shards: int = 1, *, bench: bool = False) -> float:
    """Simulate a step for many apps; return the ms for each.

    Parameters
    ----------
    step
        What happens to each.
    shards
        Operators at work, which share MongoDB and the API server.
    bench
        Everything shares the cores of the measured runs, instead of having its own.
    """
    given, queues = CONSTANTS, Queues()
    cores = Station(given.bench_cores if bench else given.cores)
    kubernetes = cores if bench else Station(given.cores)
    for _ in range(shards):
        thread = Station(1)
        own = ((thread, cores) if bench else (thread,), given.operator_call_ms)
        commands = [given.read_ms] * step.reads + [given.write_ms] * step.writes
        commands += [given.create_user_ms] * step.users
        services: list[Service] = [((kubernetes,), request_ms())] * step.asked
        services += chain.from_iterable((own, ((cores,), ms)) for ms in commands)
        services += [own, ((kubernetes,), request_ms())] * step.requests
        apps = iter(range(SIMULATED // shards))
        for _ in range(given.workers):
            queues.start(_worker(queues, apps, services))
    return queues.run() / (SIMULATED // shards * shards)


def slug(number: int) -> str:
    """Return a slug of 12 characters."""
    return f"app-{number:08}"


@cache
def slugs_bytes(apps: int) -> int:
    """Return the bytes of the document with all slugs that a pod reads."""
    rows = [{"_id": slug(n).replace("-", "_"), "slug": slug(n)} for n in range(apps)]
    return len(bson.encode({"_id": None, "slugs": rows}))


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def operator_rows(given: Constants = CONSTANTS) -> list[list[str]]:
    """Return what apps cost the operators, by the number of apps and shards."""
    rows = []
    for apps, shards in product(SIZES, SHARDS):
        each = apps / shards
        look = (UNCHANGED.commands + given.sweep_commands) * given.operator_call_ms
        rows.append([
            f"{apps:,}",
            f"{shards}",
            _time(apps * ms_an_app(CREATE, shards) / 1000),
            _time(each * ms_an_app(CREATE) / 1000),
            _time(each * ms_an_app(LOOK) / 1000),
            f"{each / given.resync_s * look / 10:.1f} %",
            _time(each / 10 * given.hub_reader_ms / 1000),
            f"{given.operator_mb + each * given.app_kib * 1024 / 1e6:,.0f} MB",
            f"{each * given.series * given.series_us / 1e6:.2f} s",
        ])  # fmt: skip
    return rows


def mongodb_rows(given: Constants = CONSTANTS) -> list[list[str]]:
    """Return what apps and pods cost each MongoDB, one of its own for each shard."""
    rows = []
    for apps, shards in product(SIZES, SHARDS):
        each, pods = apps // shards, apps // APPS_A_POD // shards
        rows.append([
            f"{apps:,}",
            f"{shards}",
            f"{pods / (GRANT_TTL_SECONDS / READINGS):,.0f}",
            f"{pods * given.pod_core_percent / 100:.2f}",
            f"{slugs_bytes(each) * pods / SLUGS_SECONDS / 1e6:,.2f}",
            f"{3 * pods:,} to {102 * pods:,}",
            f"{pods * given.pod_mb:,.0f}",
            f"{each * given.tables:,}",
            f"{each * given.role_bytes / MOST_BYTES:.0%}",
            f"{each * given.object_bytes * shards / 2**30:.2f}",
        ])  # fmt: skip
    return rows


def limits_rows(given: Constants = CONSTANTS) -> list[list[str]]:
    """Return at how many apps of one database a reply is too large."""
    of_slug = slugs_bytes(100_000) / 100_000
    longer = 2 * (48 - len(slug(0)))  # in `_id` and `slug`
    return [
        ["the sweep's list of roles (`rolesInfo`)", f"{MOST_BYTES / given.role_bytes:,.0f}"],
        [
            "all users at once (`usersInfo`), where `isolation` is changed to `library`",
            f"{MOST_BYTES / given.user_bytes:,.0f}",
        ],
        [
            "the slugs that each pod reads every 30 s",
            f"{MOST_BYTES / of_slug:,.0f}",
        ],
        ["the same, with slugs of 48 characters", f"{MOST_BYTES / (of_slug + longer):,.0f}"],
    ]


def _kept() -> list[Mapping[str, Any]]:
    runs = json.loads(KEPT.read_text())["runs"] if KEPT.exists() else []
    return [run for run in runs if "floor" in run]


def validation_rows() -> list[list[str]]:
    """Return what was simulated beside what was measured.

    Runs on a machine that was busy are compared by what kopf alone took beside them.
    """
    then = Step(reads=24, writes=8, users=1, requests=6, asked=1)
    then_library = Step(reads=17, writes=6, requests=6, asked=1)
    then_look = Step(reads=17, requests=1)
    quiet = [
        ("1,000 apps, `database`", 1000 * ms_an_app(then, bench=True), 42.9),
        ("1,000 apps, `library`", 1000 * ms_an_app(then_library, bench=True), 31.2),
        ("restart with 1,000 (10 to 14 s)", 1000 * ms_an_app(then_look, bench=True), 12.0),
        ("3,000, each of which read what grows", 3000 * ms_an_app(then, bench=True), 205.0),
    ]
    rows = [_compared(what, ms / 1000, seconds, "s") for what, ms, seconds in quiet]
    floor = ms_an_app(FLOOR, bench=True)
    runs = [
        ("100 apps, `database`, on a busy machine", CREATE, 11.81 / 2.5),
        ("a rotation of all 100, on the same", ROTATE, 10.45 / 2.5),
    ]
    for run in _kept():
        database = run["isolation"] == "database"
        took, alone = run["create"]["until_all"], run["floor"]["until_all"]
        what = f"{run['apps']:,} apps, `{run['isolation']}`, of the page's run"
        runs.append((what, CREATE if database else CREATE_LIBRARY, took / alone))
    rows += [
        _compared(what, ms_an_app(step, bench=True) / floor, measured, "times kopf alone")
        for what, step, measured in runs
    ]
    return rows


def _compared(what: str, simulated: float, measured: float, unit: str) -> list[str]:
    texts = [f"{value:.3g} {unit}" for value in (simulated, measured)]
    return [what, *texts, f"{simulated / measured - 1:+.0%}"]


def main() -> None:
    """Print all tables."""
    for title, rows in (
        ("operators", operator_rows()),
        ("MongoDB", mongodb_rows()),
        ("limits", limits_rows()),
        ("simulated and measured", validation_rows()),
    ):
        sys.stdout.write(f"{title}\n")
        sys.stdout.writelines("  " + " | ".join(row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
