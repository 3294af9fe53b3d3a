"""What apps cost the operator: time, processor, memory, requests and commands, by their number.

A control plane and a mongod of its own, the operator as its own process under the chart's rights,
and as the floor kopf alone, which creates a Secret and patches a status. ``make bench-operator``
prints a table and writes the figures as JSON; nothing is asserted, since timings are no test.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from support.clusters import Cluster, starting_control_plane
from support.installation import Installation, installed, is_ready
from support.mongo import Server
from support.operator_edge import Process
from support.waiting import wait_until

from devcluster.mongo import MongoConfig, MongoServer
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.resources import MDBAPPS

AT_ONCE = 50
"""Requests at once that create MdbApps: what a few CI systems send together."""

SPEC: dict[str, Any] = {
    "collections": [{"name": "c", "indexes": [{"keys": [{"field": "at"}]}]}],
}
"""An app with a collection and an index, which is what most have at least."""

NOT_OF_APPS = {
    "hello", "isMaster", "ping", "serverStatus", "saslStart", "saslContinue", "endSessions",
    "replSetUpdatePosition", "buildInfo", "getParameter",
}  # fmt: skip
"""Commands of drivers, of the server itself and of the bench."""

Figures = dict[str, Any]


@dataclass
class Bench:
    """One installation under measurement."""

    here: Installation
    process: Process

    @property
    def counts(self) -> Counter[str]:
        """Return everything that is counted, as it stands."""
        found: Counter[str] = Counter()
        status = self.here.server.client.admin.command("serverStatus")
        for name, told in status["metrics"]["commands"].items():
            if isinstance(told, dict) and name not in NOT_OF_APPS and told["total"]:
                found[f"mongodb {name}"] = int(told["total"])
        for name, value in self.here.metrics(self.process).items():
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            if name.startswith("mdb_operator_kubernetes_requests_total"):
                if labels["resource"] != "leases":
                    found[f"kubernetes {labels['verb']} {labels['resource']}"] += int(value)
            elif name.startswith("mdb_operator_writes_total"):
                found["writes"] += int(value)
            elif name.startswith("mdb_operator_reconcile_total"):
                found["looks"] += int(value)
        return found

    @property
    def cpu(self) -> float:
        """The seconds of processor time that the operator has used."""
        return processor_seconds(self.process.popen.pid)

    @property
    def rss(self) -> float:
        """The memory that the operator has now, in MB."""
        return memory_mb(self.process.popen.pid)

    @contextmanager
    def measured(self, apps: int) -> Iterator[Figures]:
        """Measure a block, and give each figure for one app."""
        figures: Figures = {}
        counts, cpu, started = self.counts, self.cpu, time.monotonic()
        yield figures
        figures["seconds"] = round(time.monotonic() - started, 3)
        figures["cpu_ms_per_app"] = round((self.cpu - cpu) * 1000 / apps, 2)
        figures["rss_mb"] = round(self.rss, 1)
        more = self.counts - counts
        figures["writes"] = more.pop("writes", 0)
        figures["looks"] = more.pop("looks", 0)
        for target in ("mongodb", "kubernetes"):
            rows = {k.split(" ", 1)[1]: n for k, n in more.items() if k.startswith(target)}
            figures[f"{target}_per_app"] = round(sum(rows.values()) / apps, 3)
            figures[f"{target}_by_verb"] = {
                k: round(n / apps, 3) for k, n in sorted(rows.items()) if n / apps >= 0.0005
            }


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used, as Linux counts it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Return the memory that a process has now, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def create(
    cluster: Cluster, namespace: str, manifests: list[dict[str, Any]]
) -> tuple[float, list[float]]:
    """Create MdbApps; return the seconds until all are Ready, and of each from apply to Ready."""
    kube = await KubeClient.connect(kubeconfig=cluster.kubeconfig)
    applied: dict[str, float] = {}
    ready: dict[str, float] = {}
    names = {manifest["metadata"]["name"] for manifest in manifests}
    slots = asyncio.Semaphore(AT_ONCE)

    async def apply(manifest: dict[str, Any]) -> None:
        async with slots:
            applied[manifest["metadata"]["name"]] = time.monotonic()
            await kube.create(MDBAPPS, namespace, manifest)

    async def watch(version: str) -> None:
        while len(ready) < len(names):
            async for event in kube.watch(MDBAPPS, namespace, resource_version=version):
                body = event["object"]
                version = body["metadata"]["resourceVersion"]
                name = body["metadata"].get("name")
                if name in names and name not in ready and is_ready(body.get("status") or {}):
                    ready[name] = time.monotonic()
                    if len(ready) == len(names):
                        return

    try:
        version = ""
        async for page in kube.pages(MDBAPPS, namespace, metadata_only=True):
            version = page["metadata"]["resourceVersion"]
        started = time.monotonic()
        watching = asyncio.create_task(watch(version))
        await asyncio.gather(*(apply(manifest) for manifest in manifests))
        await watching
        seconds = max(ready.values()) - started
        return seconds, [ready[name] - applied[name] for name in names]
    finally:
        await kube.aclose()


def created(cluster: Cluster, namespace: str, manifests: list[dict[str, Any]]) -> Figures:
    """Create MdbApps and tell how long it took."""
    seconds, each = asyncio.run(create(cluster, namespace, manifests))
    centiles = statistics.quantiles(each, n=100)
    return {
        "until_all_ready": round(seconds, 2),
        "p50": round(centiles[49], 3),
        "p99": round(centiles[98], 3),
    }


def timed(what: Callable[[], object], message: str) -> float:
    """Wait for something; return the seconds that it took."""
    started = time.monotonic()
    wait_until(what, deadline=900, message=message)
    return round(time.monotonic() - started, 3)


def operator(bench: Bench, names: list[str], rest: float, readers: int) -> Figures:
    """Measure everything of one installation, in the order of its life."""
    here, apps = bench.here, len(names)
    found: Figures = {"rss_mb_before": round(bench.rss, 1)}
    with bench.measured(apps) as figures:
        figures.update(created(here.cluster, here.apps, [here.manifest(n, **SPEC) for n in names]))
    found["create"] = figures
    with bench.measured(apps) as figures:
        time.sleep(rest)  # what follows by itself is what is measured
    found["rest"] = figures

    one = names[len(names) // 2]
    here.cluster.api.delete("Secret", f"{one}-mdb", here.apps)
    found["repair_seconds"] = timed(lambda: here.get("Secret", f"{one}-mdb"), "the repair")
    with bench.measured(1) as figures:
        here.annotate(one, "rotate-requested", "1")
        figures["until_rotated"] = timed(
            lambda: here.status(one)["secret"]["version"] == 2, "the rotation"
        )
        time.sleep(1)
    found["rotation"] = figures

    here.stop(bench.process)
    started = time.monotonic()
    bench.process = here.start()
    until_started = time.monotonic() - started
    timed(lambda: bench.counts["looks"] >= apps, "a look at every app")
    found["restart"] = {
        "until_started": round(until_started, 2),
        "until_all_looked_at": round(time.monotonic() - started, 2),
        "cpu_ms_per_app": round(bench.cpu * 1000 / apps, 2),
        "writes": bench.counts["writes"],
        "rss_mb": round(bench.rss, 1),
    }

    # All apps once more, with nothing to be found: the operator's own resync, only sooner.
    here.stop(bench.process)
    bench.process = here.start(RESYNC_SECONDS="10")
    timed(lambda: bench.counts["looks"] >= apps, "a look at every app")
    with bench.measured(1) as figures:
        before = bench.counts["looks"]
        timed(lambda: bench.counts["looks"] >= before + apps, "a resync of every app")
    looks = figures["looks"]
    found["routine"] = {
        "looks": looks,
        "cpu_ms_per_app": round(figures["cpu_ms_per_app"] / looks, 3),
        "mongodb_per_app": round(figures["mongodb_per_app"] / looks, 3),
        "kubernetes_per_app": round(figures["kubernetes_per_app"] / looks, 3),
        "writes": figures["writes"],
    }
    here.stop(bench.process)
    bench.process = here.start()
    timed(lambda: bench.counts["looks"] >= apps, "a look at every app")

    if readers:
        manifests = [
            here.manifest(name, dataAccess={"readScopes": ["hub", name]})
            for name in (f"reader-{number:05}" for number in range(readers))
        ]
        created(here.cluster, here.apps, [here.manifest("hub", **SPEC), *manifests])
        time.sleep(3)
        with bench.measured(readers) as figures:
            here.apply("hub", collections=[*SPEC["collections"], {"name": "d"}])
            figures["until_all_may_read"] = timed(
                lambda: may_read(here, f"reader-{readers - 1:05}", "hub_d"),
                "the last reader's role",
            )
            time.sleep(2)
        found["hub"] = figures
    return found


def may_read(here: Installation, reader: str, collection: str) -> bool:
    """Tell whether a reader's role in MongoDB names a collection."""
    role = here.mongo.command("rolesInfo", f"mdb-engine.app.{reader}", showPrivileges=True)
    return any(
        one["resource"]["collection"] == collection for one in role["roles"][0]["privileges"]
    )


def floor(cluster: Cluster, apps: int) -> Figures:
    """Measure kopf alone."""
    namespace = f"floor-{apps}"
    metadata = {"name": namespace}
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("kopf_alone.py")],
        env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "WATCHED": namespace},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        first = {"apiVersion": "mdb-engine.dev/v1", "kind": "MdbApp", "spec": {"slug": "warm-up"}}
        manifests = [
            {**first, "metadata": {"name": name}, "spec": {"slug": name, **SPEC}}
            for name in (f"app-{number:05}" for number in range(apps))
        ]
        # The first ones show that it has started.
        created(cluster, namespace, [{**first, "metadata": {"name": n}} for n in ("w1", "w2")])
        before = processor_seconds(process.pid)
        figures = created(cluster, namespace, manifests)
        used = processor_seconds(process.pid) - before
        figures["cpu_ms_per_app"] = round(used * 1000 / apps, 2)
        figures["rss_mb"] = round(memory_mb(process.pid), 1)
        return figures
    finally:
        process.terminate()
        process.wait()


def run(apps: int, isolation: str, rest: float, readers: int, *, with_floor: bool) -> Figures:
    """Measure one number of apps on a control plane and a mongod that nobody used before."""
    found: Figures = {"apps": apps, "isolation": isolation}
    with (
        tempfile.TemporaryDirectory() as directory,
        starting_control_plane() as cluster,
        MongoServer(MongoConfig(auth=True, label="bench")) as server,
        MongoClient[dict[str, Any]](server.uri) as client,
        installed(cluster, Server(server.uri, client, server), Path(directory)) as here,
    ):
        if with_floor:
            found["floor"] = floor(cluster, apps)
        here.settings["ISOLATION"] = isolation
        bench = Bench(here, here.start())
        names = [f"app-{number:05}" for number in range(apps)]
        found |= operator(bench, names, rest, readers if isolation == "database" else 0)
        here.stop(bench.process)
    return found


def table(results: list[Figures]) -> str:
    """Return the figures that are compared, as a table of Markdown."""
    head = (
        "apps", "isolation", "all Ready", "of kopf alone", "p50", "p99", "CPU an app",
        "commands", "requests", "memory", "at rest", "repair", "rotation", "restart", "its writes",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for one in results:
        create, rest, restart = one["create"], one["rest"], one["restart"]
        ratio = create["until_all_ready"] / one["floor"]["until_all_ready"] if "floor" in one else 0
        cells = (
            f"{one['apps']:,}", one["isolation"], f"{create['until_all_ready']:.1f} s",
            f"{ratio:.1f} x" if ratio else "-", f"{create['p50']:.2f} s", f"{create['p99']:.2f} s",
            f"{create['cpu_ms_per_app']:.1f} ms", f"{create['mongodb_per_app']:.1f}",
            f"{create['kubernetes_per_app']:.1f}", f"{create['rss_mb']:.0f} MB",
            f"{rest['mongodb_per_app']:.2f} + {rest['kubernetes_per_app']:.2f}",
            f"{one['repair_seconds']:.2f} s", f"{one['rotation']['until_rotated']:.2f} s",
            f"{restart.get('until_all_looked_at', 0):.1f} s", str(restart.get("writes", "-")),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("apps", nargs="*", type=int, default=[100, 1000])
    parser.add_argument("--isolation", choices=("database", "library"), action="append")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds of rest afterwards")
    parser.add_argument("--readers", type=int, default=1000, help="of the hub; 0: no hub")
    parser.add_argument("--out", type=Path, default=Path("build/bench-operator.json"))
    asked = parser.parse_args()
    results: list[Figures] = []
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    for apps in asked.apps:
        for number, isolation in enumerate(asked.isolation or ("database", "library")):
            results.append(
                run(apps, isolation, asked.rest, min(asked.readers, apps), with_floor=number == 0)
            )
            if number and "floor" in results[-2]:
                results[-1]["floor"] = results[-2]["floor"]
            asked.out.write_text(json.dumps(results, indent=2) + "\n")
            print(json.dumps(results[-1], indent=2), file=sys.stderr, flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
