from __future__ import annotations

import pytest

from devcluster.commands import run
from devcluster.errors import DevclusterError


def test_what_a_program_prints_is_returned() -> None:
    script = ["sh", "-c", 'echo "$GREETING"; echo noise >&2']

    assert run(script, what="Greeting", timeout=10, environment={"GREETING": "hello"}) == "hello\n"


def test_a_failure_shows_the_last_lines_and_what_to_do() -> None:
    script = ["sh", "-c", "for i in $(seq 50); do echo line $i; done; echo the reason >&2; exit 1"]

    with pytest.raises(DevclusterError) as caught:
        run(script, what="Counting", timeout=10, hint="Count less.")

    assert caught.value.message.startswith("Counting failed:\n")
    assert caught.value.message.endswith("line 50\nthe reason")
    assert "line 12\n" not in caught.value.message
    assert caught.value.hint == "Count less."


def test_a_missing_program_is_named() -> None:
    with pytest.raises(DevclusterError, match="Trying failed: no-such-program is not installed"):
        run(["no-such-program"], what="Trying", timeout=10)


def test_a_program_that_hangs_is_ended() -> None:
    with pytest.raises(DevclusterError, match="Waiting failed: sleep did not end within 0 s"):
        run(["sleep", "60"], what="Waiting", timeout=0.05)
