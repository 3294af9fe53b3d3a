"""The programs of ``docs/beyond-fastapi.md``, taken from the page: alone and with a binding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from support import leakscan
from support.engine_world import MASTER_KEY, OperatorHand
from support.mongo import Database
from support.waiting import wait_until
from unit.docs.pages import snippets

pytestmark = pytest.mark.long

PAGE = "docs/beyond-fastapi.md"
PROGRAMS = {
    code.partition("\n")[0].removeprefix("# "): code
    for code in (
        one.code for one in snippets("python", "ipython") if one.where.startswith(f"{PAGE}:")
    )
}


@dataclass(frozen=True)
class Desk:
    """A directory with the page's programs, and the environment to run them in."""

    directory: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str, code: int = 0, **more: str) -> str:
        """Run Python and return its output."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert not leakscan.occurrences(done.stdout + done.stderr)
        return (done.stdout + done.stderr).strip()


@pytest.fixture(params=["alone", "with a binding"])
async def desk(
    request: pytest.FixtureRequest, mongo_auth: Database, tmp_path: Path
) -> AsyncIterator[Desk]:
    directory = tmp_path / "desk"
    directory.mkdir()
    for name, code in PROGRAMS.items():
        (directory / name).write_text(code)
    manifest = {"slug": "orders", "managed_indexes": {"orders": []}}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if request.param == "alone":
        leakscan.register(MASTER_KEY, "the master key")
        environment |= {
            "MONGODB_URI": mongo_auth.uri,
            "MONGODB_DB": mongo_auth.name,
            "MDB_ENGINE_MASTER_KEY": MASTER_KEY,
        }
        yield Desk(directory, environment)
        return
    hand = OperatorHand(mongo_auth, "pymongo", tmp_path / "bindings")
    await hand.register("orders", "orders")
    yield Desk(directory, {**environment, "SERVICE_BINDING_ROOT": str(hand.root)})
    await hand.close()


def test_the_page_has_the_programs_that_are_run_here() -> None:
    assert set(PROGRAMS) == {"nightly.py", "shop.py", "work.py", "notebook.py"}


def test_the_command_line_writes_and_the_script_counts(desk: Desk) -> None:
    for name in ("tea", "tea", "cups"):
        assert desk.run("shop.py", "add", name).startswith("added ")
    assert desk.run("nightly.py") == "3 orders are not paid"
    assert desk.run("shop.py", "pay", "tea") == "2 paid"
    assert desk.run("nightly.py") == "1 orders are not paid"


def test_a_command_that_cannot_work_says_why_in_one_line(desk: Desk) -> None:
    (desk.directory / "manifest.json").write_text('{"slug": "other"}')
    said = desk.run("shop.py", "add", "tea", code=1)
    assert said == "shop: slug: is 'other', but the app is 'orders'"


CELERY = """
broker_url = "filesystem://"
broker_transport_options = {
    "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"
}
result_backend = "file://results"
broker_connection_retry_on_startup = True
"""

ASK = """
from work import count
asked = [count.delay("tea") for _ in range(6)]
print(*(one.get(timeout=60) for one in asked))
"""


def test_celery_workers_have_an_engine_each_and_end_well(desk: Desk) -> None:
    for name in ("queue", "control", "results"):
        (desk.directory / name).mkdir()
    settings = CELERY.replace("file://results", f"file://{desk.directory / 'results'}")
    (desk.directory / "celeryconfig.py").write_text(settings)
    desk.run("shop.py", "add", "tea")
    log = desk.directory / "log"
    command = ["-m", "celery", "-A", "work", "worker", "-c", "2", "-l", "INFO", "--without-mingle"]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, *command],
            cwd=desk.directory,
            env={**desk.environment, "C_FORCE_ROOT": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as worker,
    ):
        try:
            wait_until(
                lambda: " ready." in log.read_text(),
                deadline=60,
                message=lambda: f"the worker is ready; its log:\n{log.read_text()}",
            )
            assert desk.run("-c", ASK) == "1 1 1 1 1 1"
        finally:
            worker.terminate()
            worker.wait(30)
    said = log.read_text()
    assert said.count("the engine was shut down") == 2, said
    assert "Traceback" not in said
    assert not leakscan.occurrences(said)


async def run_cells(desk: Desk, *cells: str) -> list[Any]:
    """Run cells in a kernel of Jupyter's; return what each shows."""
    made = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells]  # type: ignore[no-untyped-call]
    )
    client = NotebookClient(
        made, timeout=60, kernel_name="python3", resources={"metadata": {"path": desk.directory}}
    )
    await client.async_execute(env=dict(desk.environment))
    return [cell.get("outputs", []) for cell in made.cells]


@pytest.fixture
def kernel_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.mark.usefixtures("kernel_files")
async def test_a_notebook_runs_cell_by_cell(desk: Desk) -> None:
    desk.run("shop.py", "add", "tea")
    shown = await run_cells(desk, *PROGRAMS["notebook.py"].split("# %%\n"))
    [documents] = shown[2]
    assert "'name': 'tea'" in documents["data"]["text/plain"]


@pytest.mark.usefixtures("kernel_files")
async def test_a_notebooks_handle_says_that_its_engine_was_shut_down(desk: Desk) -> None:
    cells = PROGRAMS["notebook.py"].split("# %%\n")
    with pytest.raises(CellExecutionError, match="the engine is not running"):
        await run_cells(desk, *cells, "await db.orders.find_one({})")
