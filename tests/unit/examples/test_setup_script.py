"""``scripts/setup.sh``: it makes a key once, for its owner alone, and never replaces it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mdb_engine.core.encryption import EnvelopeEncryptionService

EXAMPLE = Path(__file__).parents[3] / "examples" / "multi_app"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Give a copy of the example's files that the script works on."""
    shutil.copytree(EXAMPLE / "scripts", tmp_path / "scripts")
    shutil.copy(EXAMPLE / ".env.example", tmp_path)
    return tmp_path


def set_up(app: Path) -> str:
    done = subprocess.run(
        [app / "scripts" / "setup.sh"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert key_of(app) not in done.stdout + done.stderr
    return done.stdout


def key_of(app: Path) -> str:
    [line] = [
        line
        for line in (app / ".env").read_text().splitlines()
        if line.startswith("MDB_ENGINE_MASTER_KEY=")
    ]
    return line.partition("=")[2]


def test_a_first_run_makes_a_key_that_the_library_takes(app: Path) -> None:
    assert "Wrote a new master key" in set_up(app)

    assert len(key_of(app)) == len(EnvelopeEncryptionService.generate_master_key())
    assert (app / ".env").stat().st_mode & 0o777 == 0o600
    settings = (app / ".env").read_text()
    assert "MONGODB_URI=mongodb://mongodb:27017" in settings
    assert sorted(path.name for path in app.iterdir()) == [".env", ".env.example", "scripts"]


def test_a_second_run_keeps_the_key_and_everything_else(app: Path) -> None:
    set_up(app)
    with (app / ".env").open("a") as settings:
        settings.write("MINE=1\n")
    before = (app / ".env").read_text()

    assert "Kept the master key" in set_up(app)

    assert (app / ".env").read_text() == before


def test_a_file_without_a_key_gets_one_and_keeps_the_rest(app: Path) -> None:
    (app / ".env").write_text("MDB_ENGINE_MASTER_KEY=\nMONGODB_DB=mine\n")
    (app / ".env").chmod(0o644)

    set_up(app)

    assert key_of(app)
    assert "MONGODB_DB=mine" in (app / ".env").read_text()
    assert (app / ".env").stat().st_mode & 0o777 == 0o600


def test_two_runs_make_two_keys(app: Path) -> None:
    set_up(app)
    first = key_of(app)
    (app / ".env").unlink()
    set_up(app)
    assert key_of(app) != first
