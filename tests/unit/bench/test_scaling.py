"""The simulation of many apps: its queues, and that it takes what is counted elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml
from bench import scaling
from bench.scaling import CONSTANTS, Queues, Station, Step, ms_an_app
from unit.docs.pages import read


def test_who_finds_no_place_waits_for_the_first_that_is_left() -> None:
    queues, station, ended = Queues(), Station(2), []

    def process(name: str) -> Iterator[Station | float]:
        yield station
        yield 10.0
        queues.leave(station)
        ended.append((name, queues.now))

    for name in "abcde":
        queues.start(process(name))
    assert queues.run() == 30
    assert ended == [("a", 10), ("b", 10), ("c", 20), ("d", 20), ("e", 30)]
    assert station.free == 2


def test_the_slowest_part_alone_sets_the_pace() -> None:
    of_operator = ms_an_app(Step(reads=10))
    assert of_operator == pytest.approx(10 * CONSTANTS.operator_call_ms, rel=0.05)
    of_mongodb = ms_an_app(Step(users=1), shards=4)
    assert of_mongodb == pytest.approx(CONSTANTS.create_user_ms / CONSTANTS.cores, rel=0.1)
    assert ms_an_app(scaling.FLOOR, bench=True) == pytest.approx(CONSTANTS.floor_ms, rel=0.05)


def test_runs_that_were_measured_are_met() -> None:
    apart = {row[0]: int(row[-1].strip("%")) for row in scaling.validation_rows()[:3]}
    assert all(abs(percent) <= 20 for percent in apart.values()), apart


@pytest.mark.parametrize(
    ("step", "what"),
    [
        (scaling.CREATE, "it is created"),
        (scaling.UNCHANGED, "nothing (a resync)"),
        (scaling.LOOK, "a full look that finds nothing (at a start, and once a day)"),
        (scaling.ROTATE, "its secret is rotated"),
    ],
)
def test_the_simulation_takes_the_counts_that_tests_hold(step: Step, what: str) -> None:
    row = re.search(
        rf"^\| {re.escape(what)} \| (\d+) \| (\d+)",
        read("docs/benchmarks-operator.md"),
        re.MULTILINE,
    )
    assert row is not None
    assert (str(step.commands), str(step.requests)) == row.groups()


def test_the_simulation_takes_the_charts_defaults() -> None:
    values = yaml.safe_load(read("charts/mdb-operator/values.yaml"))
    assert (values["concurrency"], values["resyncSeconds"]) == (
        CONSTANTS.workers,
        CONSTANTS.resync_s,
    )
