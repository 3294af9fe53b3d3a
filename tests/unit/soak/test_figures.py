"""A soak tells what grows from what goes up and down."""

from __future__ import annotations

from collections.abc import Callable

from soak.figures import REQUESTS, Series, growth, over_time

SECONDS = 900.0


def series(
    name: str, figure: Callable[[float], float], what: str = "connections", begin: float = 0.0
) -> Series:
    one = Series(name, "pod", 1, dict)
    at = begin
    while at <= SECONDS:
        one.points.append((at, {what: figure(at)}))
        at += 5
    return one


def test_what_goes_up_and_down_is_flat() -> None:
    (grown,) = growth([series("a", lambda at: 20 + at % 50)], SECONDS)
    assert grown.flat
    assert grown.most == grown.second + 5


def test_a_leak_grows_and_the_process_that_grew_most_is_named() -> None:
    leaks = series("leaks", lambda at: 20 + at / 20)
    (grown,) = growth([series("a", lambda _: 20.0), leaks, series("b", lambda _: 9)], SECONDS)
    assert (grown.process, grown.flat) == ("leaks", False)
    assert grown.last > grown.second + 10


def test_requests_are_told_as_a_rate() -> None:
    (grown,) = growth([series("a", lambda at: 7 + at * 2, what=REQUESTS)], SECONDS)
    assert (grown.second, grown.last, grown.flat) == (120, 120, True)


def test_a_process_that_lived_through_less_than_both_thirds_is_not_judged() -> None:
    young = series("young", lambda at: at, begin=SECONDS / 2)
    dead = series("dead", lambda at: at)
    dead.points = dead.points[:-20]
    assert growth([young, dead], SECONDS) == []


def test_memory_is_judged_only_in_a_run_that_is_long_enough_and_never_mongods() -> None:
    leaks = series("leaks", lambda at: 50 + at / 10, what="memory, MB")
    assert [one.flat for one in growth([leaks], SECONDS)] == [False]
    leaks.kind = "mongod"
    assert [one.most for one in growth([leaks], SECONDS)] == [None]


def test_the_leader_alone_is_drawn_and_of_pods_the_median() -> None:
    one, other = series("a", lambda _: 1.0), series("b", lambda _: 3.0)
    assert list(over_time([one, other], "pod", "connections", 60)) == [(30, 2.0), (60, 2.0)]
    for _, figures in other.points:
        figures["leads"] = 0  # type: ignore[index]
    assert list(over_time([one, other], "pod", "connections", 30)) == [(30, 1.0)]
