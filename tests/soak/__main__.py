"""Run it: ``python -m soak MINUTES`` (`make soak-operator`), with ``--write`` into docs.

A control plane and a mongod of its own, two operators as in the chart, apps in several namespaces
and processes of the library with a mounted binding in the place of pods. Apps are changed at random
all the time. Every minute an operator is killed: in the first third of the run the leader, later
the one that stands by, so that one leader grows old enough for a leak to show. Half a minute later
a pod, one of the half that may be killed, or all connections to MongoDB, in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from support.clusters import Cluster, starting_control_plane
from support.forwarder import Forwarder
from support.installation import ROOT, Installation, installed, is_ready
from support.invariants import Ledger, data_of, violations
from support.kubelet import all_mounted
from support.mongo import Server, start_server
from support.operator_edge import Process
from support.soaked_operator import TASKS
from support.storm import Storm
from support.waiting import wait_until

from soak.figures import REQUESTS, Grown, Sampler, Series, growth
from soak.pod import HUB_DOCUMENTS, Said
from soak.report import keep

HUB = "hub"

NAMESPACES = ("east", "west", "south")
"""Beside the first."""

OPERATORS = ("operator-0", "operator-1")

STRIKE_SECONDS = 60.0
"""Between two kills of an operator; something else is killed in the middle."""

LEAST_STRIKES = 6
"""Of operators, in a run that is too short for as many."""

CUT_SECONDS = 1.0

SAY_SECONDS = 30.0

COLLECT_SECONDS = 5.0
"""Between two looks at all Secrets, for what was handed out."""

READY_WITHIN = 60.0
"""Seconds after the last change within which every app has to be Ready."""

SETTLED_WITHIN = 600.0
"""Seconds in which every credential that there ever was is tried, also on a busy machine."""

EXPIRY_SECONDS = 10.0
"""For a version to be gone after its end."""

SPARE_SECONDS = 1500.0
"""For what is beside the changes: the start, the checks and the end."""


@dataclass(frozen=True)
class Plan:
    """How long and how much.

    Parameters
    ----------
    seconds
        Of changes.
    apps, pods
        How many.
    checks
        How often all is held against the invariants, the last time at the end.
    overlap
        Seconds for which a secret's version goes on after a rotation.
    rate
        Changes a second.
    seed
        Of everything that is drawn.
    """

    seconds: float
    apps: int = 200
    pods: int = 20
    checks: int = 3
    overlap: float = 120.0  # the least that the CRD allows
    rate: float = 2.0
    seed: int = 15


@dataclass
class Pod:
    """One pod, through all of its processes."""

    name: str
    slug: str
    neighbour: str
    file: Path
    log: Path
    mortal: bool
    process: subprocess.Popen[bytes] | None = None
    former: list[Said] = field(default_factory=list)

    @property
    def said(self) -> Said:
        """What its process said last."""
        try:
            found = json.loads(self.file.read_text())
        except FileNotFoundError:
            return Said()
        return Said(**found)

    @property
    def all_said(self) -> list[Said]:
        """What all of its processes said last."""
        return [*self.former, self.said]


@dataclass
class Soak:
    """A run."""

    plan: Plan
    here: Installation = field(repr=False)
    server: Server = field(repr=False)
    mongodb: Forwarder = field(repr=False)
    storm: Storm = field(repr=False)
    pods: list[Pod] = field(repr=False)
    bindings: Path
    sampler: Sampler = field(default_factory=Sampler, repr=False)
    ledger: Ledger = field(default_factory=Ledger, repr=False)
    data: dict[str, list[str]] = field(default_factory=dict, repr=False)
    operators: dict[str, Process] = field(default_factory=dict, repr=False)
    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    checks: int = 0

    # --- processes

    def start_operator(self, slot: str) -> None:
        """Start an operator, as kubelet does."""
        environment = f"PYTHONPATH={ROOT / 'tests'}"
        program = (sys.executable, "-m", "support.soaked_operator", str(self.plan.overlap))
        process = self.here.start(name=slot, wait=False, program=("env", environment, *program))
        self.operators[slot] = process

        def more() -> dict[str, float]:
            metrics = self.here.metrics(process)
            return {
                "asyncio tasks": metrics[TASKS],
                "leads": metrics["mdb_operator_leader"],
                REQUESTS: sum(
                    value
                    for name, value in metrics.items()
                    if name.startswith("mdb_operator_kubernetes_requests_total")
                    and 'resource="leases"' not in name
                ),
            }

        number = len(self.here.processes)
        series = Series(f"operator {number}", "operator", process.popen.pid, more)
        self.sampler.watch(slot, series)

    def start_pod(self, pod: Pod) -> None:
        """Start a pod's process."""
        with pod.log.open("ab") as log:
            pod.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "soak.pod", str(self.bindings)),
                    *(pod.slug, HUB, pod.neighbour, pod.name, str(pod.file)),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "tests")},
            )
        name = f"{pod.name}, process {len(pod.former) + 1}"
        tasks = lambda: {"asyncio tasks": float(pod.said.tasks)} if pod.said.started else {}  # noqa: E731
        self.sampler.watch(pod.name, Series(name, "pod", pod.process.pid, tasks))

    def mongod(self) -> dict[str, float]:
        """Return what is sampled of MongoDB."""
        mongo = self.here.mongo
        names = mongo.list_collection_names()
        rows = [n for n in names if n.startswith("_mdb_engine") or n == "apps_config"]
        rows.remove("_mdb_engine_audit")
        status = self.server.client.admin.command("serverStatus")
        return {
            "connections": status["connections"]["current"],
            "rows of the registry": sum(mongo[name].estimated_document_count() for name in rows),
        }

    def begin(self) -> None:
        """Start everything, and wait until it works."""
        for slot in OPERATORS:
            self.start_operator(slot)
        self.storm.begin()
        wait_until(lambda: not self.not_ready(), deadline=300, message="all apps to be Ready")
        documents = {HUB: HUB_DOCUMENTS}
        untouched = [one for one in self.storm.names if one == HUB or one not in self.storm.kept]
        for name in untouched:
            stamped = ({"app_id": name, "n": n} for n in range(documents.get(name, 1)))
            self.here.mongo[f"{name}_c"].insert_many(stamped)
        self.data = data_of(self.here, *untouched)

    def begin_pods(self) -> None:
        """Start the pods, and wait until they work."""
        for pod in self.pods:
            self.start_pod(pod)
        wait_until(
            lambda: all(pod.said.writes for pod in self.pods),
            deadline=120,
            message=lambda: f"all pods at work: {[pod.said for pod in self.pods]}",
        )
        if self.server.owned is not None:
            pid = self.server.owned.pid
            self.sampler.watch("mongod", Series("mongod", "mongod", pid, self.mongod))

    def end(self) -> None:
        """End everything as kubelet does."""
        for pod in self.pods:
            if pod.process is not None:
                pod.process.terminate()
        for pod in self.pods:
            if pod.process is not None and (code := pod.process.wait(timeout=60)) != 0:
                self.faults.append(f"{pod.name} ended with {code}: {pod.log.read_text()[-500:]}")
        for process in self.operators.values():
            try:
                self.here.stop(process)
            except AssertionError as error:
                self.faults.append(f"an operator does not end: {str(error)[:2000]}")
        for process in self.here.processes:
            if "Traceback" in process.text():
                self.faults.append(f"a traceback in {process.output.name}")

    # --- what happens

    def run(self) -> None:
        """Change, kill, look and say, until the time is over."""
        plan, clock = self.plan, self.sampler
        clock.start()
        change = collect = 0.0
        between = min(STRIKE_SECONDS, plan.seconds / LEAST_STRIKES) / 2
        say, strike, check = SAY_SECONDS, between, plan.seconds / plan.checks
        number = 0
        while clock.seconds < plan.seconds:
            self.storm.rotations = check - clock.seconds > plan.overlap + EXPIRY_SECONDS
            if clock.seconds >= change:
                change = max(change + 1 / plan.rate, clock.seconds - 1)
                self.storm.change()
            if clock.seconds >= collect:
                collect = clock.seconds + COLLECT_SECONDS
                self.ledger.collect(self.here)
                self.look()
            if clock.seconds >= say:
                say = clock.seconds + SAY_SECONDS
                self.say()
            if clock.seconds >= strike:
                strike += between
                self.strike(number)
                number += 1
            if clock.seconds >= check and clock.seconds < plan.seconds - 1:
                self.check()
                check += plan.seconds / plan.checks
                change = clock.seconds
                strike = max(strike, change)
            time.sleep(max(0.0, min(change, strike) - clock.seconds, 0.01))

    def strike(self, number: int) -> None:
        """Kill something."""
        turn = number % 4
        if turn in {1, 3}:
            leading = self.leading()
            early = self.sampler.seconds < self.plan.seconds / 3
            (other,) = {*OPERATORS} - {leading or OPERATORS[0]}
            victim = leading if early else other
            if leading is None or victim is None:
                self.kills["nobody led"] += 1
                return
            self.here.kill(self.operators[victim])
            self.start_operator(victim)
            self.kills["the operator that leads" if early else "the operator that stands by"] += 1
        elif turn == 0:
            pod = self.storm.lot.choice([one for one in self.pods if one.mortal])
            assert pod.process is not None
            pod.process.kill()
            pod.process.wait()
            pod.former.append(pod.said)
            pod.file.unlink(missing_ok=True)
            self.start_pod(pod)
            self.kills["a pod"] += 1
        else:
            self.mongodb.cut()
            time.sleep(CUT_SECONDS)
            self.mongodb.mend()
            self.kills["all connections to MongoDB"] += 1

    def leading(self) -> str | None:
        """Return which operator leads; None while none does."""
        return next((slot for slot in OPERATORS if self.sampler.last(slot).get("leads")), None)

    def look(self) -> None:
        """Note what ended by itself, and start it again."""
        for slot, process in list(self.operators.items()):
            if (code := process.popen.poll()) is not None:
                self.faults.append(f"{slot} ended by itself with {code}: {process.text()[-1500:]}")
                self.start_operator(slot)
        for pod in self.pods:
            if pod.process is not None and (code := pod.process.poll()) is not None:
                said = pod.log.read_text()[-1500:]
                self.faults.append(f"{pod.name} ended by itself with {code}: {said}")
                pod.former.append(pod.said)
                pod.file.unlink(missing_ok=True)
                self.start_pod(pod)

    def check(self) -> None:
        """Hold all against what has to be so, once all is at rest."""
        began = time.monotonic()
        left: list[str] = []

        def all_ready() -> bool:
            now = self.not_ready()
            left[:] = now or left  # the last ones, where all are
            return not now

        try:
            wait_until(all_ready, deadline=READY_WITHIN, message=lambda: f"Ready: not {left}")
            self.ready.append(round(time.monotonic() - began, 1))
            say(f"all apps are Ready {self.ready[-1]} s after the last change, at last {left}")
            wait_until(self.holds, deadline=SETTLED_WITHIN, message=lambda: "; ".join(self.wrong))
            self.checks += 1
            say(f"all holds, {len(self.ledger)} credentials tried")
            self.pods_agree()
        except AssertionError as error:
            self.faults.append(f"at {self.sampler.seconds:.0f} s: {error}")
            say(self.faults[-1])

    def holds(self) -> bool:
        """Say whether all is as it has to be; what is not is shown."""
        self.wrong = violations(self.here, self.ledger, self.data)
        if self.wrong:
            say(f"{len(self.wrong)} things are not so yet: {'; '.join(self.wrong[:3])}")
        return not self.wrong

    def pods_agree(self) -> None:
        """Hold what pods may read, and have written, against the apps and the data."""
        statuses = {
            name: status
            for where in self.here.watched
            for name, status in self.here.statuses(where).items()
        }

        def different() -> list[str]:
            return [
                f"{pod.name} {'reads' if pod.said.neighbour else 'is refused'} {pod.neighbour}"
                for pod in self.pods
                if pod.said.neighbour != (pod.neighbour in statuses[pod.slug]["grantedScopes"])
            ]

        wait_until(lambda: not different(), deadline=30, message=lambda: "; ".join(different()))
        lost = {pod.name: number for pod in self.pods if (number := self.lost(pod)) > 0}
        assert not lost, f"acknowledged writes that are not there: {lost}"

    def lost(self, pod: Pod) -> int:
        """Return how many acknowledged writes of a pod are not there."""
        said = sum(one.writes for one in pod.all_said)
        found = self.here.mongo[f"{pod.slug}_c"].find_one({"pod": pod.name}) or {"n": 0}
        return max(0, said - int(found["n"]))

    def not_ready(self) -> list[str]:
        """Return the apps that are not Ready as their specs are now, or are not gone yet."""
        return [
            f"{app['metadata']['name']} ({_reason(app)})"
            for where in self.here.watched
            for app in self.here.cluster.api.objects("MdbApp", where)
            if not is_ready(app.get("status") or {})
            or app["status"].get("observedGeneration") != app["metadata"]["generation"]
            or "deletionTimestamp" in app["metadata"]
        ]

    # --- what is said

    @property
    def counts(self) -> dict[str, int]:
        """What the pods did, all together."""
        said = [one for pod in self.pods for one in pod.all_said]
        return {
            "reads": sum(one.reads for one in said),
            "writes": sum(one.writes for one in said),
            "refused": sum(one.refused for one in said),
            "cursors begun anew": sum(one.cursors for one in said),
            "lost": sum(self.lost(pod) for pod in self.pods),
            **sum((Counter(one.neighbours) for one in said), Counter()),
        }

    def say(self) -> None:
        """Show how it stands."""
        counts, leading = self.counts, self.leading()
        figures = dict(self.sampler.last(leading)) if leading else {}
        for name in ("leads", REQUESTS):
            figures.pop(name, None)
        found = ", ".join(f"{name} {value:g}" for name, value in figures.items())
        mongod = self.sampler.last("mongod")
        say(
            f"{self.sampler.seconds / 60:.1f} min: {self.storm.made.total()} changes,"
            f" {self.kills.total()} kills, {counts['reads']} reads,"
            f" {counts['writes']} writes, {counts['refused']} refused,"
            f" {len(self.faults)} faults; {leading or 'nobody'} leads: {found};"
            f" mongod: {mongod.get('connections', 0):g} connections"
        )

    def problems(self, grown: list[Grown]) -> list[str]:
        """Return everything that is not as it should be."""
        refusals = [
            f"{pod.name} at {time.strftime('%H:%M:%S', time.gmtime(at))}: {what}"
            for pod in self.pods
            for said in pod.all_said
            for at, what in said.errors
        ]
        growing = [
            f"{one.process}: {one.figure} grew from {one.second:g} to {one.last:g},"
            f" which may be {one.most:g}"
            for one in grown
            if not one.flat
        ]
        return [*self.faults, *refusals, *growing]

    def warnings(self) -> Counter[str]:
        """Count what the operators logged above the level info."""
        found: Counter[str] = Counter()
        for process in self.here.processes:
            for line in process.text().splitlines():
                with contextlib.suppress(ValueError):  # one that was killed while it wrote
                    told = json.loads(line)
                    if told.get("level") not in {"info", "debug"}:
                        what = re.sub(r"\d+", "N", str(told.get("message")))
                        found[f"{told.get('level')}: {what[:120]}"] += 1
        return found


def _reason(app: dict[str, Any]) -> str:
    """Return why an app is not Ready; nothing where it is, for an earlier generation."""
    rows = (app.get("status") or {}).get("conditions", ())
    return next((one["reason"] for one in rows if one["status"] != "True"), "")


def say(what: str) -> None:
    """Show a line."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", flush=True)


@contextmanager
def prepared(plan: Plan, cluster: Cluster, server: Server, directory: Path) -> Iterator[Soak]:
    """Make everything but the pods; end it all after the block, whatever happens."""
    with ExitStack() as stack:
        here = stack.enter_context(installed(cluster, server, directory, others=NAMESPACES))
        mongodb = Forwarder(here.uri)
        stack.callback(mongodb.close)
        here.settings |= {
            "MONGODB_URI": f"{mongodb.uri}&authSource={here.database}",
            "MONGODB_APPS_URI": f"mongodb://127.0.0.1:{mongodb.port}/?directConnection=true",
        }
        apps = [f"app-{number:03}" for number in range(plan.apps - 1)]
        replicated = max(1, plan.pods // 2)
        kept = {name: (HUB, apps[-1 - number]) for number, name in enumerate(apps[:replicated])}
        anybody = {"readers": [{"namespace": "*"}]}
        collections = [{"name": "c"}, {"name": "d"}]
        storm = Storm(
            here,
            [HUB, *apps],
            random.Random(plan.seed),  # noqa: S311 - it draws changes
            {name: here.watched[number % 4] for number, name in enumerate([HUB, *apps])},
            {HUB: (), **kept},
            {
                **{name: {"collections": collections} for name in apps},
                HUB: {"collections": collections, "dataAccess": anybody},
                **{
                    name: {
                        "collections": collections,
                        "dataAccess": {"readScopes": [name, *needed]},
                    }
                    for name, needed in kept.items()
                },
            },
            overlap=plan.overlap,
        )
        pods = []
        for number in range(plan.pods):
            slug, name = apps[number % replicated], f"pod-{number}"
            paths = directory / f"{name}.json", directory / f"{name}.log"
            pods.append(Pod(name, slug, kept[slug][1], *paths, mortal=number % 2 == 0))
        bindings = directory / "bindings"
        bindings.mkdir()
        soak = Soak(plan, here, server, mongodb, storm, pods, bindings)
        stack.callback(_kill, pods)
        stack.callback(soak.sampler.stop)
        soak.begin()
        where = {pod.slug: storm.namespace(pod.slug) for pod in pods}
        stack.enter_context(all_mounted(here, where, bindings, pause=1.0))
        yield soak


def _kill(pods: list[Pod]) -> None:
    for pod in pods:
        if pod.process is not None and pod.process.poll() is None:
            pod.process.kill()
            pod.process.wait()


def soaked(
    plan: Plan, cluster: Cluster, server: Server, directory: Path
) -> tuple[dict[str, Any], list[Series], list[str]]:
    """Run it; return what it came to, the samples, and everything that was wrong."""
    say(f"{plan.apps} apps and {plan.pods} pods, {plan.seconds / 60:g} minutes, seed {plan.seed}")
    with prepared(plan, cluster, server, directory) as soak:
        soak.begin_pods()
        say("all apps are Ready, all pods at work")
        soak.run()
        soak.sampler.stop()
        soak.check()
        soak.end()
        grown = growth(soak.sampler.all, plan.seconds)
        problems = soak.problems(grown)
        found = {
            "plan": asdict(plan),
            "namespaces": len(soak.here.watched),
            "changes": dict(soak.storm.made),
            "kills": dict(soak.kills),
            "pods": soak.counts,
            "ready": soak.ready,
            "credentials": len(soak.ledger),
            "checks": soak.checks,
            "faults": len(problems),
            "growth": [one.as_json() for one in grown],
            "warnings": dict(soak.warnings()),
        }
        return found, soak.sampler.all, problems


def main() -> int:
    """Run it as it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--apps", type=int, default=200)
    parser.add_argument("--pods", type=int, default=20)
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="keep the run in docs")
    asked = parser.parse_args()
    short = asked.minutes < 10
    plan = Plan(
        asked.minutes * 60,
        asked.apps,
        asked.pods,
        checks=1 if short else 3,
        overlap=15.0 if short else 120.0,
        seed=asked.seed,
    )
    signal.signal(signal.SIGALRM, _too_late)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.alarm(int(plan.seconds + SPARE_SECONDS))
    with (
        tempfile.TemporaryDirectory() as directory,
        starting_control_plane() as cluster,
        start_server(auth=True) as server,
    ):
        found, series, problems = soaked(plan, cluster, server, Path(directory))
    keep(found, series, write=asked.write)
    for name, part in found.items():
        if name not in {"growth", "plan"}:
            print(f"{name}: {part}")
    for one in found["growth"]:
        most = "not judged" if one["most"] is None else f"at most {one['most']:g}"
        flat = "flat" if one["flat"] else "GROWS"
        print(
            f"{flat:6} {one['process']:22} {one['figure']:22}"
            f" {one['second']:8g} then {one['last']:8g}, {most}"
        )
    print("\n".join(problems) or "Nothing grew, nothing broke, nothing was refused.")
    return 1 if problems else 0


def _too_late(*_: object) -> None:
    raise SystemExit("it has taken longer than its time and twenty-five minutes")


if __name__ == "__main__":
    sys.exit(main())
