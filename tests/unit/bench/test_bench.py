"""The benchmark runs: each of its operations once, on the server that takes no time."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree as ET

import pytest
from bench.__main__ import prepared
from bench.chart import bars
from bench.measure import Pair, measure
from bench.operations import TITLES, concurrencies, operations
from bench.stub import stub_server


@pytest.mark.parametrize("driver", ["pymongo", "motor"])
async def test_every_operation_runs_with_the_library_and_without(driver: str) -> None:
    with stub_server() as uri:
        async with prepared("stub", driver, uri) as (plain, engine):
            pairs = operations(driver, plain, engine)
            assert pairs.keys() == TITLES.keys()
            for pair in pairs.values():
                await asyncio.gather(pair.plain(), pair.library())


async def test_a_figure_is_a_ratio_of_what_ran_in_turn() -> None:
    ran: list[str] = []

    async def plain() -> None:
        ran.append("plain")
        await asyncio.sleep(0.001)

    async def library() -> None:
        ran.append("library")
        await asyncio.sleep(0.004)

    figure = await measure(Pair(plain, library), 1, 0.1)
    assert ran.count("plain") == ran.count("library") > 20
    assert ran[:4] == ["plain", "library", "library", "plain"]
    assert figure.ratio > 1.5
    assert figure.low <= figure.high


async def test_a_figure_can_be_of_few_rounds() -> None:
    async def slow() -> None:
        await asyncio.sleep(0.002)

    figure = await measure(Pair(slow, slow), 16, 0.0)
    assert 0.3 < figure.low <= figure.high < 3


def test_a_chart_is_svg_that_says_where_a_bar_is_cut() -> None:
    rows = {f"row {n} < 9": {"pymongo": 1.0 + n / 100, "motor": 1.1} for n in range(9)}
    text = bars("A & B", {**rows, "long": {"pymongo": 40.0, "motor": 0.9}}, base=1.0, aim=1.03)
    root = ET.fromstring(text)  # noqa: S314 - our own
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "row 1 < 9" in texts
    assert "40.00 (cut)" in texts
    assert "0.90" in texts


def test_what_takes_milliseconds_is_not_run_64_at_once() -> None:
    assert concurrencies("find_one", short=False) == (1, 16, 64)
    assert concurrencies("insert_many_1000", short=False) == (1,)
    assert concurrencies("find_one", short=True) == (1, 16)
