"""What the README and the demo print works as printed, for somebody with just a checkout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.multi_app import World
from support.newcomer import Newcomer, arrive, commands_in, commands_of, two_free_ports

pytestmark = [pytest.mark.long, pytest.mark.root]

NOT_HERE = {
    "make test": "it runs this test",
    "make demo-down": "the cluster is that of all tests; `make test-journeys` runs it",
}
"""What is printed and not run here, and why."""

END_FORWARDS = """
cd examples/multi_app/demo
../../../.venv/bin/python -c 'import forwarding; forwarding.stop()'
"""


@pytest.fixture
def newcomer(world: World, tmp_path: Path) -> Iterator[Newcomer]:
    """Give somebody whose demo is the tests' installation: it runs already.

    A cluster of kind's has of kubectl and helm what was not on PATH where it was started: the rest
    is on PATH here, too.
    """
    tools = world.cluster.provider.tools()
    newcomer = arrive(
        tmp_path,
        {
            "DEMO_CLUSTER": world.cluster.name,
            "DEMO_SYSTEM": world.system,
            "DEMO_SHOP": world.shop,
            "DEMO_PORT": str(two_free_ports()),
        },
        programs={
            name: Path(world.cluster.program(name))
            for name in ("kubectl", "helm")
            if tools is None or not (tools / name).exists()
        },
    )
    yield newcomer
    newcomer.paste([END_FORWARDS])


def the_walk(newcomer: Newcomer, port: int) -> list[str]:
    """Return what the example's page says of Kubernetes, where the demo is in other places."""
    settings = newcomer.settings
    commands = commands_of("examples/multi_app/README.md")
    walk = commands[commands.index("make demo") :]
    assert walk[:2] == ["make demo", "source .demo/env"]
    elsewhere = {
        "-n shop": f"-n {settings['DEMO_SHOP']}",
        "-n mdb-system": f"-n {settings['DEMO_SYSTEM']}",
        ":8000/": f":{port}/",
        ":8001/": f":{port + 1}/",
        "curl ": "curl --fail --silent --show-error ",
    }
    for name, value in elsewhere.items():
        walk = [command.replace(name, value) for command in walk]
    return [one for one in walk[2:] if one not in NOT_HERE]


def test_what_the_readme_and_the_demo_print_works_in_a_shell_with_little_on_its_path(
    newcomer: Newcomer,
) -> None:
    readme = commands_of("README.md")
    assert {"make demo", "source .demo/env", "kubectl get mdbapps -A", *NOT_HERE} <= set(readme)
    here = [command for command in readme if command not in NOT_HERE]
    elsewhere = here.index("DEMO_PORT=9000 make demo")
    port = two_free_ports()
    here[elsewhere] = here[elsewhere].replace("9000", str(port))

    outcomes = {one.command: one.output for one in newcomer.paste(here)}
    columns = outcomes["kubectl get mdbapps -A"].splitlines()[0].split()
    assert " ".join(columns) in " ".join((newcomer.checkout / "README.md").read_text().split())
    assert f"http://127.0.0.1:{port}\n" in outcomes[here[elsewhere]]
    for url in (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}/dashboard"):
        assert httpx.get(url, timeout=10).is_success

    walk = the_walk(newcomer, port)
    walked = newcomer.paste(["source .demo/env", *walk])
    assert "click_tracker_dashboard" in walked[1].output
    counted = [one.output for one in walked if one.command.endswith("/analytics")]
    assert json.loads(counted[0].splitlines()[-1])["total_clicks"] >= 1

    *around, down = commands_in(outcomes["make demo"])
    assert [line.split()[0] for line in around] == ["source", *["kubectl"] * 5]
    assert down.endswith(" make demo-down")
    assert f"DEMO_CLUSTER={newcomer.settings['DEMO_CLUSTER']} " in down
    newcomer.paste(around)
