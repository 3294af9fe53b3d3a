"""``make demo`` from a fresh clone to ``make demo-down``, by the README and by what it prints."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.newcomer import Newcomer, arrive, commands_in, commands_of, two_free_ports

pytestmark = [pytest.mark.root, pytest.mark.timeout(1500, func_only=True)]


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    newcomer = arrive(
        tmp_path,
        {"DEMO_CLUSTER": f"demo-{secrets.token_hex(4)}", "DEMO_PORT": str(two_free_ports())},
    )
    yield newcomer
    newcomer.paste(["make demo-down"])  # where the test did not come to it


def test_the_demo_is_there_after_one_command_and_gone_after_another(newcomer: Newcomer) -> None:
    readme = commands_of("README.md")
    there = readme.index("make demo")
    looked = [one for one in readme if one.startswith(("source", "kubectl"))]
    demo, *_ = newcomer.paste([readme[there], *looked], timeout=1400)
    assert " 0 failed" in demo.output
    *around, down = commands_in(demo.output)
    outcomes = newcomer.paste([*around, down, "make demo-down"], timeout=300)
    assert "The demo does not run" in outcomes[-1].output
    assert not (newcomer.checkout / ".demo").exists()
