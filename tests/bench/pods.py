"""What many pods cost MongoDB, and a pod the apps of others, by processes of the library.

A thousand apps of 20 collections are registered, and 200 pods run, of one app or each of another:
engines with a connection of their own each, several in one process, because it is the server that
is looked at. At last a primary of three members steps down under them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.collection import Collection
from support.binding import MountedSecret
from support.replica_set import replica_set, step_down
from support.waiting import wait_until_async

from bench.data import DATABASE, SLUG, TOKEN, binding
from devcluster.mongo import MongoConfig, MongoServer
from mdb_engine import MdbEngineError, MongoDBEngine
from mdb_engine.config import EngineSettings

__all__ = ["measure_pods"]

APPS: Final = 1000
PODS: Final = 200
PROCESSES: Final = 4

REST_SECONDS: Final = 8.0
WRITE_SECONDS: Final = 6.0
WRITE_PAUSE: Final = 0.1
REVOCATIONS: Final = 3

LOOK_SECONDS: Final = 0.1
"""How often a process looks whether its pods still accept the token."""

READ_SECONDS: Final = 1.0
"""Between two readings of a pod through an election."""

ELECTED_SECONDS: Final = 120.0
"""For all pods to read again after an election."""

Mount = tuple[str, str]
"""Where a pod finds its bindings, and its app."""

Process = subprocess.Popen[str]

TICKS: Final = os.sysconf("SC_CLK_TCK")


def row(slug: str, reads: list[str], token: str = TOKEN) -> dict[str, Any]:
    """Return an app's row of the grants."""
    names = [f"collection_{n}" for n in range(20)]
    digest = hashlib.sha256(token.encode()).digest()
    return {
        "_id": slug.replace("-", "_"),
        "slug": slug,
        "verifiers": [{"sha256": digest, "version": 1, "not_after": None}],
        "read_scopes": sorted({slug, *reads}),
        "write_scope": slug,
        "collections": names,
        "stamped": names,
        "epoch": 1,
    }


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int | str) -> float:
    """Return the memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@dataclass
class Pod:
    """An engine, and how its reading goes."""

    engine: MongoDBEngine
    slug: str
    succeeded_at: float = 0.0
    longest: float = 0.0
    failed: int = 0

    @property
    def has_access(self) -> bool:
        """Whether its token is accepted."""
        return self.engine.readiness(self.slug).checks[-1].ok

    async def read(self) -> None:
        """Read a document every second, and keep for how long none could be read."""
        collection = self.engine.get_scoped_db(self.slug).collection_0
        while True:
            try:
                await collection.find_one({"_id": 1})
            except MdbEngineError:
                self.failed += 1
            else:
                now = time.monotonic()
                if self.succeeded_at:
                    self.longest = max(self.longest, now - self.succeeded_at)
                self.succeeded_at = now
            await asyncio.sleep(READ_SECONDS)


async def serve(mounts: Sequence[Mount]) -> None:
    """Run pods; print the moments at which all lost access, or had it again.

    A line on standard input has all of them read; at the next one they say how that went.
    """
    running = []
    for root, slug in mounts:  # not at once: one loop is not the loops of many pods
        engine = MongoDBEngine(settings=EngineSettings(binding_root=Path(root)))
        await engine.initialize()
        running.append(Pod(engine, slug))
    _say({"ready": True})
    line = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
    reading: list[asyncio.Task[None]] = []
    before = True
    while True:
        await asyncio.wait([line], timeout=LOOK_SECONDS)
        if {pod.has_access for pod in running} == {not before}:
            before = not before
            _say({"ok": before, "at": time.time()})
        if not line.done():
            continue
        line = asyncio.ensure_future(asyncio.to_thread(sys.stdin.readline))
        if reading:
            await read_since(running, time.monotonic())
            longest, failed = max(pod.longest for pod in running), sum(p.failed for p in running)
            _say({"longest": longest, "failed": failed})
            continue
        reading = [asyncio.create_task(pod.read()) for pod in running]
        await read_since(running, 0.0)
        _say({"reading": True})


async def read_since(running: Sequence[Pod], moment: float) -> None:
    """Wait until every pod has read something after a moment."""
    await wait_until_async(
        lambda: all(pod.succeeded_at > moment for pod in running),
        deadline=ELECTED_SECONDS,
        message="every pod to read",
    )


def _say(what: Mapping[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def told(process: Process) -> Mapping[str, Any]:
    """Return what pods say next."""
    assert process.stdout is not None
    found: Mapping[str, Any] = json.loads(process.stdout.readline())
    return found


def tell(started: Sequence[Process]) -> list[Mapping[str, Any]]:
    """Have pods begin or end what they do next, and return what they say of it."""
    for process in started:
        assert process.stdin is not None
        process.stdin.write("next\n")
        process.stdin.flush()
    return [told(process) for process in started]


def mounted(directory: Path, uri: str, slugs: Sequence[str]) -> list[Mount]:
    """Mount a binding for each pod, as the operator would have projected it."""
    mounts = []
    for number, slug in enumerate(slugs):
        root = directory / f"pod-{number}"
        MountedSecret(root / slug, {**binding(uri), "app-slug": slug})
        mounts.append((str(root), slug))
    return mounts


@contextmanager
def pods(mounts: Sequence[Mount]) -> Iterator[list[Process]]:
    """Run pods in several processes until the block ends."""
    with ExitStack() as stack:
        started = []
        for number in range(PROCESSES if mounts else 0):
            command = [sys.executable, "-m", "bench.pods", json.dumps(mounts[number::PROCESSES])]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            told(process)
        yield started


def processor(
    pid: int, seconds: float, write: Callable[[], Any] | None = None
) -> Mapping[str, Any]:
    """Return what a server uses of a core over some time, and how long a write takes."""
    taken = []
    began, used = time.monotonic(), cpu_seconds(pid)
    while time.monotonic() - began < seconds:
        at = time.monotonic()
        if write is not None:
            write()
            taken.append(time.monotonic() - at)
        time.sleep(WRITE_PAUSE)
    share = (cpu_seconds(pid) - used) / (time.monotonic() - began)
    found: dict[str, Any] = {"cpu_percent": round(share * 100, 2)}
    if taken:
        found["writes_per_second"] = round(len(taken) / (time.monotonic() - began), 1)
        found["write_ms"] = round(statistics.median(taken) * 1000, 2)
    return found


def revocations(
    grants: Collection[Any], slugs: Sequence[str], started: Sequence[Process]
) -> list[float]:
    """Revoke all tokens some times, and return after how many seconds it held in all pods."""
    seconds = []
    for number in range(REVOCATIONS):
        for token in (f"another {number}", TOKEN):
            at = time.time()
            verifiers = row("", [], token)["verifiers"]
            change = {"$set": {"verifiers": verifiers}, "$inc": {"epoch": 1}}
            grants.update_many({"slug": {"$in": [*slugs]}}, change)
            seen = [told(process)["at"] for process in started]
            if token != TOKEN:
                seconds.append(round(max(seen) - at, 2))
    return seconds


def commands(client: MongoClient[Any]) -> int:
    """Return how many commands a server has carried out."""
    known = client.admin.command("serverStatus")["metrics"]["commands"]
    return sum(one["total"] for one in known.values() if isinstance(one, dict))


def change_streams(client: MongoClient[Any]) -> int:
    """Return how many change streams a server holds."""
    operations = client.admin.aggregate([{"$currentOp": {"idleCursors": True}}])
    return sum("$changeStream" in json.dumps(one, default=str) for one in operations)


async def one_pod(root: Path, grants: Collection[Any]) -> Mapping[str, Any]:
    """Return what one pod holds, and how long its event loop is held by changes of others' rows."""
    async with MongoDBEngine(settings=EngineSettings(binding_root=root, grant_ttl=0.2)) as engine:
        engine.get_scoped_db(SLUG)
        loop = asyncio.get_running_loop()

        async def held(change: Callable[[int], Any] | None) -> float:
            used = time.process_time()
            for number in range(40):
                if change is not None:
                    await loop.run_in_executor(None, change, number)
                await asyncio.sleep(0.05)
            return time.process_time() - used

        def unrelated(number: int) -> None:
            grants.update_one({"_id": f"app_{number + 100}"}, {"$inc": {"epoch": 1}})

        def elsewhere(number: int) -> None:
            grants.database.elsewhere.update_one({"_id": number}, {"$inc": {"epoch": 1}})

        alone, changing = await held(elsewhere), await held(unrelated)
        return {
            "ms_per_unrelated_change": round((changing - alone) / 40 * 1000, 2),
            "resident_mb": round(resident_mb("self"), 1),
        }


def of_pods(
    mongod: MongoServer, client: MongoClient[Any], directory: Path, slugs: Sequence[str]
) -> Mapping[str, Any]:
    """Measure a server with pods of some apps, or with none."""
    database = client[DATABASE]
    with pods(mounted(directory, mongod.uri, slugs)) as started:
        time.sleep(3)
        before = commands(client)
        rest = processor(mongod.pid, REST_SECONDS)
        sent = commands(client) - before
        part: dict[str, Any] = {
            "rest": rest,
            "commands_per_minute": round(sent * 60 / REST_SECONDS),
            "connections": client.admin.command("serverStatus")["connections"]["current"],
            "change_streams": change_streams(client),
            "writing": processor(
                mongod.pid, WRITE_SECONDS, lambda: database.elsewhere.insert_one({})
            ),
            "mongod_mb": round(resident_mb(mongod.pid)),
        }
        if started:
            used, began = sum(cpu_seconds(one.pid) for one in started), time.monotonic()
            time.sleep(REST_SECONDS)
            used = sum(cpu_seconds(one.pid) for one in started) - used
            part["pods_cpu_percent"] = round(used / (time.monotonic() - began) * 100, 1)
            part["revocation_seconds"] = revocations(database["_mdb_engine_grants"], slugs, started)
    return part


def election(directory: Path) -> Mapping[str, Any]:
    """Measure what pods that read every second notice of another primary of three members."""
    with replica_set() as server:
        grants = server.client[DATABASE]["_mdb_engine_grants"]
        grants.insert_one(row(SLUG, []))
        with pods(mounted(directory, server.uri, [SLUG] * PODS)) as started:
            tell(started)
            began = time.monotonic()
            step_down(server)
            elected = time.monotonic() - began
            said = tell(started)
    return {
        "elected_after": round(elected, 2),
        "longest_without": round(max(one["longest"] for one in said) - READ_SECONDS, 2),
        "failed": sum(one["failed"] for one in said),
    }


def measure_pods() -> Mapping[str, Any]:
    """Measure one pod, a server without pods and with many, and many through an election."""
    apps = [f"app-{n}" for n in range(APPS - 1)]
    with (
        MongoServer(MongoConfig(die_with_parent=True)) as mongod,
        tempfile.TemporaryDirectory() as name,
        MongoClient[dict[str, Any]](mongod.uri) as client,
    ):
        directory = Path(name)
        grants = client[DATABASE]["_mdb_engine_grants"]
        grants.insert_many([row(slug, [f"app-{n + 1}"]) for n, slug in enumerate(apps)])
        grants.insert_one(row(SLUG, ["app-7"]))
        ((root, _),) = mounted(directory / "one", mongod.uri, [SLUG])
        command = [sys.executable, "-m", "bench.pods", root, mongod.uri]
        seen = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return {
            "apps": APPS,
            "pods": PODS,
            "one_pod": json.loads(seen.stdout),
            "with_0": of_pods(mongod, client, directory / "none", []),
            f"with_{PODS}": of_pods(mongod, client, directory / "same", [SLUG] * PODS),
            "each_of_another": of_pods(mongod, client, directory / "apart", apps[:PODS]),
            "election": election(directory / "election"),
        }


def _child() -> None:
    what, *uri = sys.argv[1:]
    if not uri:
        asyncio.run(serve(json.loads(what)))
    else:
        with MongoClient[dict[str, Any]](uri[0]) as client:
            grants = client[DATABASE]["_mdb_engine_grants"]
            print(json.dumps(asyncio.run(one_pod(Path(what), grants))))


if __name__ == "__main__":
    _child()
