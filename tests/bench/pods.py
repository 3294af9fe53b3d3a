"""What many pods cost MongoDB, and a pod the apps of others, by processes of the library.

A thousand apps of 20 collections are registered, and 200 pods run: engines with a connection of
their own each, several in one process, because it is the server that is looked at.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.collection import Collection
from support.binding import MountedSecret

from bench.data import DATABASE, SLUG, TOKEN, binding
from devcluster.mongo import MongoConfig, MongoServer
from mdb_engine import MongoDBEngine
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


async def serve(root: Path, count: int) -> None:
    """Run pods of one app; print the moments at which all lost access, or had it again."""
    engines = [MongoDBEngine(settings=EngineSettings(binding_root=root)) for _ in range(count)]
    for engine in engines:  # not at once: one loop is not the loops of many pods
        await engine.initialize()
    print(json.dumps({"ready": True}), flush=True)
    before = True
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        states = {engine.readiness(SLUG).checks[-1].ok for engine in engines}
        if states == {not before}:
            before = not before
            print(json.dumps({"ok": before, "at": time.time()}), flush=True)


@contextmanager
def pods(root: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Run pods in several processes until the block ends."""
    with ExitStack() as stack:
        started = []
        for _ in range(PROCESSES if count else 0):
            command = [sys.executable, "-m", "bench.pods", str(root), str(count // PROCESSES)]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            started.append(process)
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
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


def revocations(grants: Collection[Any], started: list[subprocess.Popen[str]]) -> list[float]:
    """Revoke a token some times, and return after how many seconds it held in all pods."""
    seconds = []
    for number in range(REVOCATIONS):
        for token in (f"another {number}", TOKEN):
            fresh = row(SLUG, ["app-7"], token)
            at = time.time()
            grants.replace_one({"_id": SLUG}, {**fresh, "epoch": int(at * 1000)})
            seen = [json.loads(one.stdout.readline())["at"] for one in started if one.stdout]
            if token != TOKEN:
                seconds.append(round(max(seen) - at, 2))
    return seconds


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


def measure_pods() -> Mapping[str, Any]:
    """Measure one pod, and a server without pods and with many."""
    with (
        MongoServer(MongoConfig(die_with_parent=True)) as mongod,
        tempfile.TemporaryDirectory() as directory,
    ):
        root = Path(directory)
        MountedSecret(root / SLUG, binding(mongod.uri))
        with MongoClient[dict[str, Any]](mongod.uri) as client:
            grants = client[DATABASE]["_mdb_engine_grants"]
            grants.insert_many([row(f"app-{n}", [f"app-{n + 1}"]) for n in range(APPS - 1)])
            grants.insert_one(row(SLUG, ["app-7"]))
            found: dict[str, Any] = {"apps": APPS, "pods": PODS}
            command = [sys.executable, "-m", "bench.pods", str(root), mongod.uri]
            seen = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found["one_pod"] = json.loads(seen.stdout)

            def elsewhere() -> None:
                client[DATABASE].elsewhere.insert_one({})

            for count in (0, PODS):
                with pods(root, count) as started:
                    time.sleep(3)
                    found[f"with_{count}"] = part = {
                        "rest": processor(mongod.pid, REST_SECONDS),
                        "writing": processor(mongod.pid, WRITE_SECONDS, elsewhere),
                        "mongod_mb": round(resident_mb(mongod.pid)),
                    }
                    if count:
                        used, began = sum(cpu_seconds(one.pid) for one in started), time.monotonic()
                        time.sleep(REST_SECONDS)
                        used = sum(cpu_seconds(one.pid) for one in started) - used
                        part["pods_cpu_percent"] = round(used / (time.monotonic() - began) * 100, 1)
                        part["revocation_seconds"] = revocations(grants, started)
    return found


def _child() -> None:
    root, what = Path(sys.argv[1]), sys.argv[2]
    if what.isdigit():
        asyncio.run(serve(root, int(what)))
    else:
        with MongoClient[dict[str, Any]](what) as client:
            grants = client[DATABASE]["_mdb_engine_grants"]
            print(json.dumps(asyncio.run(one_pod(root, grants))))


if __name__ == "__main__":
    _child()
