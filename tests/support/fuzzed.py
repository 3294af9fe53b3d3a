# ruff: noqa: E501 - sentences
"""An operator that is given what nobody would write, and what has to be so whatever that is.

Apps of a batch are created, changed and deleted beside a neighbour. Each ends in a status that
speaks of its generation, and says what to do about it where it is not ready; the operator is at
rest then, writes nothing more, and has met nothing that it did not expect.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mdb_engine.exceptions import ManifestInvalid
from mdb_engine.models.spec import MdbAppSpec
from mdb_operator.apps.conditions import Reason
from support.api import ApiError
from support.crd_inputs import without
from support.installation import Installation, is_ready
from support.invariants import Ledger, data_of, violations
from support.operator_edge import Process
from support.waiting import DeadlineExceededError, wait_until

__all__ = ["Fuzzed", "fuzzed"]

_log = logging.getLogger(__name__)

NEIGHBOUR = "neighbour"

BLAMELESS = frozenset(
    {
        Reason.DATABASE_UNAVAILABLE,
        Reason.KEY_UNAVAILABLE,
        Reason.KUBERNETES_UNAVAILABLE,
        Reason.CONTENDED,
    }
)
"""What no spec is the reason of: MongoDB and the API server are there all the time."""

PASSING = frozenset({Reason.INDEX_BUILDING, Reason.COLLECTION_ADOPTING})

CORRECTIONS = 12
"""How often what the API server refuses is taken out of a spec, until it takes it."""

QUIET_SECONDS = 1.0

UNEXPECTED = ("Traceback", "unexpected", '"level": "error"', '"level":"error"', "Event not posted")
"""What no line of the operator's log holds."""


@dataclass
class Fuzzed:
    """An installation with a neighbour, and what was seen of what it was given."""

    here: Installation
    ledger: Ledger = field(default_factory=Ledger, repr=False)
    counts: Counter[str] = field(default_factory=Counter)
    by_model: Counter[str] = field(default_factory=Counter)
    """What the API server takes and the model does not: fields and messages."""
    findings: list[str] = field(default_factory=list)
    data: Mapping[str, list[str]] = field(default_factory=dict, repr=False)
    _read: int = 0

    @property
    def process(self) -> Process:
        return self.here.processes[-1]

    def found(self, what: str, about: Any = "") -> None:
        """Keep something that must not be."""
        if isinstance(about, dict) and "metadata" in about:
            metadata = {k: v for k, v in about["metadata"].items() if k != "managedFields"}
            about = {**about, "metadata": metadata}
        self.findings.append(f"{what}: {json.dumps(about)[:4000]}" if about else what)
        _log.warning("Found: %s", self.findings[-1])

    # --- specs

    def offer(self, name: str, spec: Mapping[str, Any], *, correct: bool = False) -> bool:
        """Create or change an app; with ``correct`` as far as the API server takes the spec."""
        api, wanted = self.here.cluster.api, dict(spec)
        for _ in range(CORRECTIONS if correct else 1):
            manifest = self.here.manifest(name)
            manifest["spec"] = wanted
            self.counts["inputs"] += 1
            try:
                there = api.get("MdbApp", name, self.here.apps)
                if there is None:
                    stored = api.create(manifest, self.here.apps)
                else:
                    stored = api.replace({**there, "spec": wanted}, self.here.apps)
            except ApiError as error:
                if error.status == 409:
                    continue
                self.counts["refused"] += 1
                fields = _fields(error)
                if not 400 <= error.status < 500:
                    self.found(f"the API server answers {error.status}", [str(error)[:500], wanted])
                elif not fields:
                    self.found("a refusal names no field", [str(error)[:500], wanted])
                for one in sorted(fields, reverse=True):
                    wanted = without(wanted, one)
                continue
            self.counts["accepted"] += 1
            self._compare(stored["spec"])
            return True
        return False

    def _compare(self, spec: Mapping[str, Any]) -> None:
        """See whether the operator's model takes what the API server has taken."""
        try:
            MdbAppSpec.parse(spec)
        except ManifestInvalid as error:
            for fault in error.faults:
                path = "".join(c for c in fault.path if not c.isdigit())
                self.by_model[f"{path}: {fault.message}"[:70]] += 1
        except Exception as error:  # noqa: BLE001 - which is what is looked for
            self.found(f"the model raises {type(error).__name__}", spec)

    # --- what has to be so

    def settle(self, *names: str, deadline: float = 45) -> None:
        """Wait until every app has a status of its generation; see what that says."""

        def left() -> list[str]:
            items = self.here.cluster.api.objects("MdbApp", self.here.apps)
            return [
                one["metadata"]["name"]
                for one in items
                if one["metadata"]["name"] in names and not _is_settled(one)
            ]

        try:
            wait_until(lambda: not left(), deadline=deadline, message="statuses")
        except DeadlineExceededError:
            for name in left():
                self.found("has no settled status", self.here.app(name))
        self.ledger.collect(self.here)
        for name in names:
            app = self.here.get("MdbApp", name)
            if app is not None and app["spec"].get("operatorClass", "default") == "default":
                self._look_at(app)
        self.look_at_log()

    def _look_at(self, app: Mapping[str, Any]) -> None:
        rows = (app.get("status") or {}).get("conditions", [])
        ready: Mapping[str, Any] = next((row for row in rows if row["type"] == "Ready"), {})
        self.counts["ready" if ready.get("status") == "True" else "not ready"] += 1
        for row in rows:
            if row["reason"] not in set(Reason):
                self.found(f"{row['type']} has no known reason", app)
            elif row["status"] != "True" and len(row["message"]) < 20:
                self.found(f"{row['type']} does not say what to do", app)
            elif row["status"] != "True" and row["reason"] in BLAMELESS:
                self.found(f"{row['type']}: {row['reason']}: {row['message']}", app["spec"])

    def look_at_log(self) -> None:
        """Look for what the operator did not expect in what it wrote since the last look."""
        text = self.process.text()
        fresh, self._read = text[self._read :], len(text)
        for line in fresh.splitlines():
            if any(word in line for word in UNEXPECTED):
                self.found("the log", line[:3000])
        if self.process.popen.poll() is not None:
            self.found(f"the operator ended with {self.process.popen.returncode}")

    def rest(self) -> None:
        """See that nothing is written while nothing changes, and no app is looked at all the time."""

        def done() -> tuple[float, int, float]:
            metrics = self.here.metrics(self.process)
            runs = sum(
                v
                for k, v in metrics.items()
                if k.startswith("mdb_operator_reconcile") and "_total" in k
            )
            return (
                sum(self.here.written_to_kubernetes(self.process).values()),
                self.here.written_to_mongodb(),
                runs,
            )

        before: list[Any] = [done(), time.monotonic()]

        def quiet() -> bool:
            now = done()
            if now[:2] != before[0][:2]:
                before[:] = [now, time.monotonic()]
            return bool(time.monotonic() - before[1] >= QUIET_SECONDS)

        try:
            wait_until(quiet, deadline=20, message="rest")
        except DeadlineExceededError:
            self.found("the operator goes on writing", self.process.text()[-2000:])
            return
        runs = done()[2] - before[0][2]
        if runs > 60 * (time.monotonic() - before[1]):
            self.found(f"the operator looks {runs} times in a second although nothing changes")

    def neighbour(self) -> None:
        """See that the neighbour is well, and its data are as they were."""
        if not is_ready(self.here.status(NEIGHBOUR)):
            self.found("the neighbour is not ready", self.here.app(NEIGHBOUR))
        found = data_of(self.here, NEIGHBOUR)  # and that of apps whose slug begins like it
        if {name: found.get(name) for name in self.data} != self.data:
            self.found("the neighbour's data were changed")

    def remove(self, *names: str) -> None:
        """Delete apps and see that they go."""
        for name in names:
            self.here.cluster.api.delete("MdbApp", name, self.here.apps)

        def left() -> list[str]:
            items = self.here.cluster.api.objects("MdbApp", self.here.apps)
            return [one["metadata"]["name"] for one in items if one["metadata"]["name"] in names]

        try:
            wait_until(lambda: not left(), deadline=30, message="ends")
        except DeadlineExceededError:
            for name in left():
                self.found("does not go", self.here.app(name))

    def end(self) -> None:
        """Hold everything against what has to be so of an operator at rest, but for what is found."""
        problems: list[str] = []

        def holds() -> bool:
            problems[:] = violations(self.here, self.ledger, self.data)
            return not problems

        try:
            wait_until(holds, deadline=30, message="invariants")
        except DeadlineExceededError:
            self.findings += [f"violated: {one}" for one in problems]
        self.here.scan_for_leaks()

    def attempt(self, what: str, work: Callable[[], Any]) -> Any:
        """Do what may be refused, and nothing else: return what comes of it, or None."""
        self.counts["inputs"] += 1
        try:
            return work()
        except ApiError as error:
            if not 400 <= error.status < 500:
                self.found(f"{what}: the API server answers {error.status}", str(error)[:500])
            self.counts["refused"] += 1
            return None


def _is_settled(app: Mapping[str, Any]) -> bool:
    status = app.get("status") or {}
    if app["spec"].get("operatorClass", "default") != "default":
        return not status.get("installation") and not app["metadata"].get("finalizers")
    rows = status.get("conditions", [])
    generation = app["metadata"]["generation"]
    return bool(
        status.get("observedGeneration") == generation
        and any(r["type"] == "Ready" and r["observedGeneration"] == generation for r in rows)
        and not any(r["reason"] in PASSING for r in rows)
    )


def _fields(error: ApiError) -> set[str]:
    """Return the fields that a refusal names."""
    text = str(error)
    body = text[text.index("{") :] if "{" in text else "{}"
    try:
        status = json.loads(body)
    except ValueError:
        return set()
    causes = (status.get("details") or {}).get("causes") or []
    found = {str(one["field"]) for one in causes if str(one.get("field", "")).startswith("spec")}
    for part in str(status.get("message", "")).split('unknown field "')[1:]:
        found.add(part.split('"')[0])
    return found


@contextmanager
def fuzzed(here: Installation) -> Iterator[Fuzzed]:
    """Start an operator, with a neighbour that has data and a reader."""
    here.start(LEADER_ELECTION="false")
    world = Fuzzed(here)
    here.mongo["old"].insert_one({"v": 1})
    collections = [{"name": "c", "indexes": [{"keys": [{"field": "at"}]}]}]
    here.apply(NEIGHBOUR, collections=collections)
    here.wait_condition(NEIGHBOUR)
    here.mongo[f"{NEIGHBOUR}_c"].insert_one({"app_id": NEIGHBOUR, "at": 1})
    world.data = data_of(here, NEIGHBOUR)
    world.ledger.collect(here)
    yield world
