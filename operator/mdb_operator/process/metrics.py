"""What the operator tells Prometheus.

Counters and histograms are plain. What is said *about an app* (conditions, the age of its secret)
is kept as one snapshot per app and turned into series when somebody asks, so that an app that is
gone takes all its series with it and none goes stale.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from mdb_engine.registry.models.installation import Installation
from mdb_operator.kubernetes.resources import AppKey

__all__ = ["AppSnapshot", "Metrics"]

WRITE_VERBS = frozenset({"create", "update", "patch", "delete"})
"""Requests that change something; a steady state makes none."""

DURATIONS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Buckets in seconds: an idle reconcile takes milliseconds, a first one tens of them."""

ConditionStatus = Literal["True", "False", "Unknown"]

ReconcileResult = Literal["unchanged", "changed", "waiting", "error"]


@dataclass(frozen=True, slots=True)
class AppSnapshot:
    """What is shown of one app."""

    slug: str
    # Status and reason by type.
    conditions: Mapping[str, tuple[ConditionStatus, str]] = field(default_factory=dict)
    secret_version: int | None = None  # None when it has no secret
    rotated_at: float | None = None  # when that was made, in seconds since the epoch


class _Collector(Collector):
    """The series that are made when somebody asks.

    Of an app in which all is well there are three, and none at all where they are not wanted: what
    is said of all together is as long for ten thousand apps as for ten.
    """

    def __init__(
        self,
        apps: Callable[[], Mapping[AppKey, AppSnapshot]],
        up: Callable[[], bool | None],
        *,
        each: bool,
    ) -> None:
        self._apps = apps
        self._up = up
        self._each = each

    def describe(self) -> Iterable[Metric]:
        return self._families({}, up=None, each=self._each)

    def collect(self) -> Iterable[Metric]:
        return self._families(self._apps(), up=self._up(), each=self._each)

    @staticmethod
    def _families(
        apps: Mapping[AppKey, AppSnapshot], *, up: bool | None, each: bool
    ) -> Iterator[Metric]:
        known = GaugeMetricFamily("mdb_operator_apps", "MdbApps that this process knows.")
        known.add_metric([], len(apps))
        yield known
        labels = ["namespace", "name", "slug"]
        conditions = GaugeMetricFamily(
            "mdb_operator_app_condition",
            "1 for an MdbApp's condition Ready, and for any other that is not true.",
            labels=[*labels, "condition", "status", "reason"],
        )
        versions = GaugeMetricFamily(
            "mdb_operator_app_secret_version",
            "The version of an MdbApp's current secret.",
            labels=labels,
        )
        ages = GaugeMetricFamily(
            "mdb_operator_app_secret_age_seconds",
            "Time since an MdbApp's current secret was made.",
            labels=labels,
        )
        totals = GaugeMetricFamily(
            "mdb_operator_conditions",
            "How many MdbApps have a condition with a status and reason.",
            labels=["condition", "status", "reason"],
        )
        oldest = GaugeMetricFamily(
            "mdb_operator_oldest_secret_age_seconds",
            "Time since the oldest of all current secrets was made.",
        )
        now = time.time()
        counts = Counts(
            (kind, status.lower(), reason)
            for app in apps.values()
            for kind, (status, reason) in app.conditions.items()
        )
        for labels_of_one, count in sorted(counts.items()):
            totals.add_metric(labels_of_one, count)
        if made := [app.rotated_at for app in apps.values() if app.rotated_at is not None]:
            oldest.add_metric([], max(0.0, now - min(made)))
        for key, app in apps.items() if each else ():
            app_labels = [key.namespace, key.name, app.slug]
            for kind, (status, reason) in app.conditions.items():
                if status != "True" or kind == "Ready":
                    conditions.add_metric([*app_labels, kind, status.lower(), reason], 1)
            if app.secret_version is not None:
                versions.add_metric(app_labels, app.secret_version)
            if app.rotated_at is not None:
                ages.add_metric(app_labels, max(0.0, now - app.rotated_at))
        database = GaugeMetricFamily(
            "mdb_operator_database_up",
            "Whether MongoDB answered the leader last time (1) or not (0); absent on a standby.",
        )
        if up is not None:
            database.add_metric([], up)
        yield from (totals, oldest, conditions, versions, ages, database)


class Metrics:
    """All metrics of one process, on a registry of their own.

    Without ``each_app`` there are no series of single apps.
    """

    def __init__(self, *, each_app: bool = True) -> None:
        self.registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._apps: dict[AppKey, AppSnapshot] = {}
        self._database_up: bool | None = None
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(_Collector(self._snapshot, lambda: self._database_up, each=each_app))

        counter = partial(Counter, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry)
        build = gauge("mdb_operator_build_info", "1, with the version.", ["version"])
        build.labels(version("mdbapp-operator")).set(1)
        self.leader = gauge("mdb_operator_leader", "Whether this process leads (1) or waits (0).")
        self._reconciles = counter(
            "mdb_operator_reconcile_total", "Reconciles by result.", ["result"]
        )
        self._durations = Histogram(
            "mdb_operator_reconcile_duration_seconds",
            "Duration of reconciles by result.",
            ["result"],
            buckets=DURATIONS,
            registry=self.registry,
        )
        for result in get_args(ReconcileResult):
            # A counter that is first seen at 1 has not increased, and no alert would see it.
            self._reconciles.labels(result)
        self._writes = counter(
            "mdb_operator_writes_total",
            "Writes to the API server and to MongoDB, by the reason for them.",
            ["target", "reason"],
        )
        self._requests = counter(
            "mdb_operator_kubernetes_requests_total",
            "Requests to the API server; code 0 is no answer.",
            ["verb", "resource", "code"],
        )
        self._watch_restarts = counter(
            "mdb_operator_secret_watch_restarts_total",
            "How often the Secret watch started anew, by cause.",
            ["cause"],
        )
        self._held_by_other = gauge(
            "mdb_operator_database_held_by_other",
            "1, with the installation that manages the database, where this one may not; else "
            "absent.",
            ["installation", "installation_namespace"],
        )
        self._rivals = gauge(
            "mdb_operator_app_held_by_other",
            "1, with the installation that handles it, for an MdbApp of this one's class that "
            "another installation has.",
            ["namespace", "name", "installation"],
        )
        self._rival_of: dict[AppKey, str] = {}
        self.unreadable_rows = gauge(
            "mdb_operator_unreadable_rows",
            "Rows of the registry that could not be read at the last sweep; the log names them.",
        )
        self.queue_length = gauge("mdb_operator_queue_length", "Apps that wait to be reconciled.")
        self._rewrapped = counter(
            "mdb_operator_master_key_rewrapped_total",
            "Data keys that were wrapped anew with the active master key.",
        )
        self.rewrap_pending = gauge(
            "mdb_operator_master_key_rewrap_pending",
            "Apps whose data keys are not yet wrapped with the active master key.",
        )

        self._usable_keys = gauge(
            "mdb_operator_master_key_usable",
            "Whether a keyring could be read, or a key manager wrapped and unwrapped, at the last "
            "look (1) or not (0).",
            ["manager"],
        )

    def show_key_manager(self, name: str, usable: bool) -> None:  # noqa: FBT001 - an observer's
        """Show whether a key manager can be used; `MasterKeys`' observer."""
        self._usable_keys.labels(name).set(usable)

    @contextmanager
    def time_reconcile(self) -> Iterator[ReconcileTimer]:
        """Count and time one reconcile; set ``result`` on what is yielded, else it is an error."""
        timer = ReconcileTimer()
        started = time.perf_counter()
        try:
            yield timer
        finally:
            self._reconciles.labels(timer.result).inc()
            self._durations.labels(timer.result).observe(time.perf_counter() - started)

    def show_database(self, *, up: bool) -> None:
        """Show whether MongoDB answered; a process that never asked it has no such series."""
        self._database_up = up

    def show_holder(self, other: Installation | None) -> None:
        """Show which other installation manages the database; None where none does."""
        self._held_by_other.clear()
        if other is not None:
            self._held_by_other.labels(other.identity, other.namespace).set(1)

    def show_rival(self, key: AppKey, installation: str) -> None:
        """Show that another installation of the same class handles an app."""
        self.forget_rival(key)
        self._rival_of[key] = installation
        self._rivals.labels(key.namespace, key.name, installation).set(1)

    def forget_rival(self, key: AppKey) -> None:
        """Remove what `show_rival` showed."""
        installation = self._rival_of.pop(key, None)
        if installation is not None:
            self._rivals.remove(key.namespace, key.name, installation)

    def count_write(self, target: Literal["kubernetes", "mongodb"], reason: str) -> None:
        """Count a write by its reason: ``create``, ``repair``, ``rotate``, ``status`` and so on."""
        self._writes.labels(target, reason).inc()

    def count_request(self, verb: str, resource: str, status: int) -> None:
        """Count a request to the API server; `KubeClient`'s observer."""
        self._requests.labels(verb, resource, str(status)).inc()

    def count_watch_restart(self, cause: str) -> None:
        """Count a fresh start of the Secret watch."""
        self._watch_restarts.labels(cause).inc()

    def show_rewrap(self, done: int, pending: int) -> None:
        """Count data keys that were wrapped anew, and show how many apps' are still to be."""
        self.rewrap_pending.set(pending)
        if done:
            self._rewrapped.inc(done)
            self.count_write("mongodb", "rewrap")

    def show_app(self, key: AppKey, snapshot: AppSnapshot) -> None:
        """Replace everything that is shown of the app."""
        with self._lock:
            self._apps[key] = snapshot

    def forget_app(self, key: AppKey) -> None:
        """Remove every series of an app that is gone."""
        with self._lock:
            self._apps.pop(key, None)

    def _snapshot(self) -> dict[AppKey, AppSnapshot]:
        with self._lock:
            return dict(self._apps)


@dataclass(slots=True)
class ReconcileTimer:
    """What a reconcile came to: ``unchanged``, ``changed``, ``waiting`` or ``error``."""

    result: ReconcileResult = "error"
