"""What apps cost the operator: time, processor, memory, requests and commands, by their number.

A control plane and a mongod of its own, the operator as its own process under the chart's rights,
and as the floor kopf alone, which creates a Secret and patches a status. ``make bench-operator``
prints a table and writes the figures as JSON; nothing is asserted, since timings are no test.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from support.clusters import Cluster, starting_control_plane
from support.installation import Installation, installed, is_ready
from support.mongo import Server
from support.operator_edge import Process
from support.waiting import wait_until

from bench.chart import lines
from bench.report import DOCS, machine
from devcluster.mongo import MongoConfig, MongoServer
from mdb_operator.constants import ANNOTATION_ROTATE_REQUESTED
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.resources import MDBAPPS

AT_ONCE = 50
"""Requests at once that create MdbApps: what a few CI systems send together."""

DEADLINE_SECONDS = 1800.0
"""How long anything is waited for."""

SPEC: dict[str, Any] = {
    "collections": [{"name": "c", "indexes": [{"keys": [{"field": "at"}]}]}],
}
"""An app with a collection and an index, which is what most have at least."""

CLOSES_FILES: dict[str, str] = {"wiredTigerFileHandleCloseIdleTime": "30"}
"""For `mongod`: an app has three files, and WiredTiger keeps each open for ten minutes otherwise.
10,000 apps that are made in less than that need 30,000 descriptors, or `mongod` ends itself."""

NOT_OF_APPS = {
    "hello", "isMaster", "ping", "serverStatus", "saslStart", "saslContinue", "endSessions",
    "replSetUpdatePosition", "buildInfo", "getParameter",
}  # fmt: skip
"""Commands of drivers, of the server itself and of the bench."""

Figures = dict[str, Any]

Change = Callable[[KubeClient], Awaitable[object]]
"""Sends one request that changes an MdbApp."""


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
    def measured(self, what: str, apps: int) -> Iterator[Figures]:
        """Measure a block, and give each figure for one app."""
        figures: Figures = {}
        say(what)
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


def say(what: str) -> None:
    """Show on the terminal what is measured now."""
    print(f"{time.strftime('%H:%M:%S')}    {what}", file=sys.stderr, flush=True)


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used, as Linux counts it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Return the memory that a process has now, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def change(
    cluster: Cluster,
    namespace: str,
    changes: Mapping[str, Change],
    done: Callable[[Mapping[str, Any]], bool],
) -> tuple[float, list[float]]:
    """Change MdbApps, each by a request of its own.

    Parameters
    ----------
    cluster, namespace
        Where they are.
    changes
        What sends the request, by the MdbApp's name.
    done
        Whether a status is the one that is waited for.

    Returns
    -------
    tuple
        The seconds until all are done, and of each from its request until it was.
    """
    kube = await KubeClient.connect(kubeconfig=cluster.kubeconfig)
    sent: dict[str, float] = {}
    ended: dict[str, float] = {}
    slots = asyncio.Semaphore(AT_ONCE)

    async def send(name: str, change: Change) -> None:
        async with slots:
            sent[name] = time.monotonic()
            await change(kube)

    async def watch(version: str) -> None:
        while len(ended) < len(changes):
            async for event in kube.watch(MDBAPPS, namespace, resource_version=version):
                body = event["object"]
                version = body["metadata"]["resourceVersion"]
                name = body["metadata"].get("name")
                if name in changes and name not in ended and done(body.get("status") or {}):
                    ended[name] = time.monotonic()
                    if len(ended) == len(changes):
                        return

    try:
        version = ""
        async for page in kube.pages(MDBAPPS, namespace, metadata_only=True):
            version = page["metadata"]["resourceVersion"]
        started = time.monotonic()
        watching = asyncio.create_task(watch(version))
        await asyncio.gather(*(send(name, change) for name, change in changes.items()))
        try:
            await asyncio.wait_for(watching, DEADLINE_SECONDS)
        except TimeoutError:
            missing = [name for name in changes if name not in ended]
            raise SystemExit(
                f"{len(missing)} of {len(changes)} apps, among them {missing[:3]}, are not done"
                f" after {DEADLINE_SECONDS:g} s; what the operator says is in its log"
            ) from None
        return max(ended.values()) - started, [ended[name] - sent[name] for name in changes]
    finally:
        await kube.aclose()


def changed(
    cluster: Cluster,
    namespace: str,
    changes: Mapping[str, Change],
    done: Callable[[Mapping[str, Any]], bool] = is_ready,
) -> Figures:
    """Change MdbApps and tell how long it took."""
    seconds, each = asyncio.run(change(cluster, namespace, changes, done))
    centiles = statistics.quantiles(each, n=100)
    return {
        "until_all": round(seconds, 2),
        "p50": round(centiles[49], 3),
        "p99": round(centiles[98], 3),
    }


def created(cluster: Cluster, namespace: str, manifests: list[dict[str, Any]]) -> Figures:
    """Create MdbApps and tell how long it took until all were Ready."""

    def creation(manifest: dict[str, Any]) -> Change:
        return lambda kube: kube.create(MDBAPPS, namespace, manifest)

    changes = {manifest["metadata"]["name"]: creation(manifest) for manifest in manifests}
    return changed(cluster, namespace, changes)


def rotated(here: Installation, names: list[str], number: int, version: int) -> Figures:
    """Rotate the secrets of MdbApps and tell how long it took until all have that version."""
    body = {"metadata": {"annotations": {ANNOTATION_ROTATE_REQUESTED: str(number)}}}

    def rotation(name: str) -> Change:
        return lambda kube: kube.patch(MDBAPPS, here.apps, name, body)

    return changed(
        here.cluster,
        here.apps,
        {name: rotation(name) for name in names},
        lambda status: (status.get("secret") or {}).get("version", 0) >= version,
    )


def timed(what: Callable[[], object], message: str) -> float:
    """Wait for something; return the seconds that it took."""
    say(message)
    started = time.monotonic()
    wait_until(what, deadline=DEADLINE_SECONDS, message=message)
    return round(time.monotonic() - started, 3)


def operator(bench: Bench, names: list[str], rest: float, readers: int, *, brief: bool) -> Figures:
    """Measure everything of one installation, in the order of its life."""
    here, apps = bench.here, len(names)
    found: Figures = {"rss_mb_before": round(bench.rss, 1)}
    with bench.measured("creation of all", apps) as figures:
        figures.update(created(here.cluster, here.apps, [here.manifest(n, **SPEC) for n in names]))
    found["create"] = figures
    with bench.measured("rest", apps) as figures:
        time.sleep(rest)  # what follows by itself is what is measured
    found["rest"] = figures

    one = names[len(names) // 2]
    here.cluster.api.delete("Secret", f"{one}-mdb", here.apps)
    found["repair_seconds"] = timed(lambda: here.get("Secret", f"{one}-mdb"), "the repair")
    with bench.measured("rotation of one", 1) as figures:
        here.annotate(one, "rotate-requested", "1")
        figures["until_rotated"] = timed(
            lambda: here.status(one)["secret"]["version"] == 2, "the rotation"
        )
        time.sleep(1)
    found["rotation"] = figures
    others = [name for name in names if name != one]
    if not brief:
        with bench.measured("rotation of all", apps) as figures:
            figures.update(rotated(here, others, 1, 2))
        found["rotation_of_all"] = figures
        found["master_key"] = master_key(bench, apps)
        found["failover"] = failover(bench, others[: max(2, apps // 10)])
    found["restart"] = restart(bench, apps, one)
    found["routine"] = routine(bench, apps)
    if readers:
        found["hub"] = hub(bench, readers)
    if not brief:
        found["removal"] = removal(bench, apps + (readers + 1 if readers else 0))
    return found


def start_anew(bench: Bench, **settings: Any) -> None:
    """Stop the operator, and start it with some settings."""
    bench.here.stop(bench.process)
    bench.process = bench.here.start(**settings)


def all_looked_at(bench: Bench, apps: int) -> None:
    """Wait until an operator that was started anew has looked at every app."""
    timed(lambda: bench.counts["looks"] >= apps, "a look at every app")


def restart(bench: Bench, apps: int, one: str) -> Figures:
    """Measure two restarts: until all apps were looked at, and until a change of one is served."""
    here = bench.here
    here.stop(bench.process)
    started = time.monotonic()
    bench.process = here.start()
    until_started = time.monotonic() - started
    all_looked_at(bench, apps)
    figures: Figures = {
        "until_started": round(until_started, 2),
        "until_all_looked_at": round(time.monotonic() - started, 2),
        "cpu_ms_per_app": round(bench.cpu * 1000 / apps, 2),
        "writes": bench.counts["writes"],
        "rss_mb": round(bench.rss, 1),
    }
    start_anew(bench)
    version = here.status(one)["secret"]["version"]
    here.annotate(one, "rotate-requested", "restarted")
    figures["until_one_is_served"] = timed(
        lambda: here.status(one)["secret"]["version"] > version, "a change of one app meanwhile"
    )
    all_looked_at(bench, apps)
    return figures


def routine(bench: Bench, apps: int) -> Figures:
    """Measure the operator's resync, only sooner: all apps, where nothing is to be found."""
    start_anew(bench, RESYNC_SECONDS="10")
    all_looked_at(bench, apps)
    with bench.measured("resync", 1) as figures:
        before = bench.counts["looks"]
        timed(lambda: bench.counts["looks"] >= before + apps, "a resync of every app")
    looks = figures["looks"]
    start_anew(bench)
    all_looked_at(bench, apps)
    return {
        "looks": looks,
        "cpu_ms_per_app": round(figures["cpu_ms_per_app"] / looks, 3),
        "mongodb_per_app": round(figures["mongodb_per_app"] / looks, 3),
        "kubernetes_per_app": round(figures["kubernetes_per_app"] / looks, 3),
        "writes": figures["writes"],
    }


def hub(bench: Bench, readers: int) -> Figures:
    """Measure a further collection of an app that many read, until the last may read it."""
    here = bench.here
    say("creation of a hub and its readers")
    manifests = [
        here.manifest(name, dataAccess={"readScopes": ["hub", name]})
        for name in (f"reader-{number:05}" for number in range(readers))
    ]
    created(here.cluster, here.apps, [here.manifest("hub", **SPEC), *manifests])
    time.sleep(3)
    with bench.measured("a change of the hub", readers) as figures:
        here.apply("hub", collections=[*SPEC["collections"], {"name": "d"}])
        figures["until_all_may_read"] = timed(
            lambda: may_read(here, f"reader-{readers - 1:05}", "hub_d"),
            "the last reader's role",
        )
        time.sleep(2)
    return figures


def master_key(bench: Bench, apps: int) -> Figures:
    """Measure a new master key, until all is wrapped by it and every status says so."""
    started = time.monotonic()
    with bench.measured("a new master key", apps) as figures:
        done = bench.here.command("rotate-master-key", "--key-id", "bench-2", "--settle", "1")
        if done.returncode:
            raise SystemExit(f"rotate-master-key failed: {done.stderr[-500:]}")

        def told() -> bool:
            objects = bench.here.cluster.api.objects("MdbApp", bench.here.apps)
            return all(one["status"]["secret"]["keyId"] == "bench-2" for one in objects)

        timed(told, "every status")
        figures["until_all"] = round(time.monotonic() - started, 2)
    return figures


def failover(bench: Bench, names: list[str]) -> Figures:
    """Measure rotations while the primary steps down, and is elected anew."""
    admin = bench.here.server.client.admin

    def step_down() -> None:
        # It cuts the connection that it is asked on; the only member is elected again.
        with contextlib.suppress(PyMongoError):
            admin.command("replSetStepDown", 3, force=True)

    stepping = threading.Timer(0.2, step_down)
    with bench.measured("rotations through an election", len(names)) as figures:
        stepping.start()
        figures.update(rotated(bench.here, names, 2, 3))
        stepping.join()
    return figures


def removal(bench: Bench, apps: int) -> Figures:
    """Measure the deletion of a namespace, until MongoDB has no user of its apps."""
    here = bench.here
    # The operator's Role there goes with the namespace; this is what lets it finish.
    for manifest in here.rendered("let-go.yaml", rbac={"letGo": True}):
        here.cluster.api.apply(manifest)
    with bench.measured("deletion of the namespace", apps) as figures:
        here.cluster.api.delete("Namespace", here.apps)
        figures["until_all"] = timed(
            lambda: not here.cluster.api.objects("MdbApp", here.apps), "the end of the MdbApps"
        )
    return figures


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


def run(
    apps: int, isolation: str, rest: float, readers: int, *, with_floor: bool, brief: bool
) -> Figures:
    """Measure one number of apps on a control plane and a mongod that nobody used before."""
    found: Figures = {"apps": apps, "isolation": isolation}
    say(f"{apps:,} apps, isolation {isolation}: a control plane and a MongoDB of their own")
    with (
        tempfile.TemporaryDirectory() as directory,
        starting_control_plane() as cluster,
        MongoServer(MongoConfig(auth=True, label="bench", parameters=CLOSES_FILES)) as server,
        MongoClient[dict[str, Any]](server.uri) as client,
        installed(cluster, Server(server.uri, client, server), Path(directory)) as here,
    ):
        if with_floor:
            say("kopf alone")
            found["floor"] = floor(cluster, apps)
        here.settings |= {"ISOLATION": isolation, "MASTER_KEY_RELOAD_SECONDS": "5"}  # as the chart
        bench = Bench(here, here.start())
        names = [f"app-{number:05}" for number in range(apps)]
        readers = readers if isolation == "database" else 0
        found |= operator(bench, names, rest, readers, brief=brief)
        here.stop(bench.process)
    return found


def summary(one: Figures) -> list[tuple[str, str]]:
    """Return what is compared of one run, each with its figures."""
    create, rest, restart, routine = (one[n] for n in ("create", "rest", "restart", "routine"))
    ratio = create["until_all"] / one["floor"]["until_all"] if "floor" in one else 0
    found = [
        ("all Ready after", f"{create['until_all']:.1f} s"),
        ("which is of the time of kopf alone", f"{ratio:.1f} times" if ratio else "-"),
        ("from apply to Ready, p50 and p99", f"{create['p50']:.2f} and {create['p99']:.2f} s"),
        ("the operator's processor time an app", f"{create['cpu_ms_per_app']:.1f} ms"),
        ("commands and requests an app", _both(create)),
        ("memory of the operator", f"{create['rss_mb']:.0f} MB"),
        ("commands and requests an app in the minute after", _both(rest)),
        ("a Secret that was deleted is back after", f"{one['repair_seconds']:.2f} s"),
        ("one rotation among all", f"{one['rotation']['until_rotated']:.2f} s"),
        ("restart: all looked at after", f"{restart['until_all_looked_at']:.1f} s"),
        ("restart: a change of one app is served after", f"{restart['until_one_is_served']:.2f} s"),
        ("restart: writes", str(restart["writes"])),
        ("a look at one that has not changed",
         f"{routine['cpu_ms_per_app']:.2f} ms, {_both(routine)}"),
    ]  # fmt: skip
    for name, what in (
        ("rotation_of_all", "a rotation of all"),
        ("master_key", "a new master key for all"),
        ("failover", "a tenth of them rotated through an election"),
        ("removal", "their namespace is deleted: all gone after"),
    ):
        found.append((what, f"{one[name]['until_all']:.1f} s" if name in one else "-"))
    hub = one.get("hub")
    reached = f"{hub['until_all_may_read']:.1f} s, {_both(hub)} a reader" if hub else "-"
    found.append(("a hub's collection reaches all readers after", reached))
    return found


def _both(figures: Figures) -> str:
    return f"{figures['mongodb_per_app']:.2f} + {figures['kubernetes_per_app']:.2f}"


def keep(results: list[Figures], before: Mapping[str, str]) -> None:
    """Write the figures where the documentation takes its table from, and draw the charts.

    A run replaces an earlier one of as many apps and the same isolation; the others stay.

    Parameters
    ----------
    results
        The runs.
    before
        The machine before they began: they make a load of their own.
    """
    file, load = DOCS / "benchmarks-operator.json", "load average"
    earlier = json.loads(file.read_text())["runs"]
    runs = {(one["apps"], one["isolation"]): one for one in earlier} | {
        (one["apps"], one["isolation"]): {**one, load: before[load], "summary": summary(one)}
        for one in results
    }
    results = [runs[which] for which in sorted(runs)]
    machine = {name: value for name, value in before.items() if name != load}
    file.write_text(json.dumps({"machine": machine, "runs": results}, indent=1) + "\n")
    time_of: dict[str, dict[int, float]] = {}
    memory_of: dict[str, dict[int, float]] = {}
    for one in results:
        apps = one["apps"]
        time_of.setdefault(one["isolation"], {})[apps] = one["create"]["until_all"]
        memory_of.setdefault(one["isolation"], {})[apps] = one["create"]["rss_mb"]
        if "floor" in one:
            time_of.setdefault("kopf alone", {})[apps] = one["floor"]["until_all"]
            memory_of.setdefault("kopf alone", {})[apps] = one["floor"]["rss_mb"]
    for name, title, series, unit in (
        ("time", "Time until all apps that are created at once are Ready", time_of, "s"),
        ("memory", "Memory of the operator", memory_of, "MB"),
    ):
        chart = lines(title, series, unit)
        (DOCS / "images" / f"benchmarks-operator-{name}.svg").write_text(chart)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("apps", nargs="*", type=int, default=[100, 1000])
    parser.add_argument("--isolation", choices=("database", "library"), action="append")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds of rest afterwards")
    parser.add_argument("--readers", type=int, default=1000, help="of the hub; 0: no hub")
    parser.add_argument("--out", type=Path, default=Path("build/bench-operator.json"))
    parser.add_argument(
        "--brief", type=int, default=5000, metavar="APPS",
        help="from this many on leave out what rotates and deletes all",
    )  # fmt: skip
    parser.add_argument("--write", action="store_true", help="keep the run in docs")
    asked = parser.parse_args()
    results: list[Figures] = []
    before = machine()
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    for apps in asked.apps:
        for number, isolation in enumerate(asked.isolation or ("database", "library")):
            readers, brief = min(asked.readers, apps), apps >= asked.brief
            results.append(
                run(apps, isolation, asked.rest, readers, with_floor=number == 0, brief=brief)
            )
            if number and "floor" in results[-2]:
                results[-1]["floor"] = results[-2]["floor"]
            asked.out.write_text(json.dumps(results, indent=2) + "\n")
            print(json.dumps(results[-1], indent=2), file=sys.stderr, flush=True)
            if asked.write:
                keep(results, before)
    for one in results:
        print(f"{one['apps']:,} apps, {one['isolation']}:")
        for what, measured in summary(one):
            print(f"  {what:60} {measured}")


if __name__ == "__main__":
    main()
