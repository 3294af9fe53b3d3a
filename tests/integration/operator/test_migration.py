"""A database of the earlier version comes into the hands of the operator, and goes back."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from support import leakscan
from support.installation import Installation
from support.legacy import LegacyProgram

pytestmark = pytest.mark.long

COMMAND = ("migrate", "--from-legacy")


@pytest.fixture
def old(installation: Installation, tmp_path: Path) -> LegacyProgram:
    program = LegacyProgram(installation.mongo)
    (tmp_path / "old.env").write_text(f"OTHER=1\nMDB_ENGINE_MASTER_KEY={program.key_text}\n")
    return program


def migrate(
    installation: Installation, tmp_path: Path, *more: str
) -> subprocess.CompletedProcess[str]:
    """Run the command with the rights of the operator's own MongoDB user."""
    return installation.command(
        *COMMAND,
        *("--namespace", installation.apps, "--master-key-file", str(tmp_path / "old.env"), *more),
        MONGODB_URI=installation.uri,
    )


def test_twenty_apps_are_taken_up_with_their_tokens_and_go_back(
    installation: Installation, old: LegacyProgram, tmp_path: Path
) -> None:
    slugs = old.shop(20)
    before = old.dump()
    installation.start()
    installation.apply("early")
    # A database of the earlier version stops everything, and every app says why.
    found = installation.wait_condition("early", "DatabaseUnavailable")
    assert "app00, app01" in found["message"]
    assert "mdb-operator migrate --from-legacy" in found["message"]
    installation.kubectl("delete", "mdbapp", "early", "--wait=false")
    assert old.dump() == before

    looked = migrate(installation, tmp_path, "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert "20 apps would be brought over" in looked.stderr
    assert "app00: left out: websockets" in looked.stderr
    assert old.dump() == before

    done = migrate(installation, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == looked.stdout
    again = migrate(installation, tmp_path)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert not any(token in done.stdout + done.stderr for token in old.tokens.values())

    installation.kubectl("apply", "-f", "-", manifest=done.stdout)
    for slug in slugs:
        installation.wait_condition(slug, deadline=90)
        secret = installation.secret(f"{slug}-mdb")
        for value in secret.values():
            leakscan.register(value, "a projected value") if len(value) > 40 else None
        assert secret["secret-version"] == "2"
        assert secret["app-secret-previous"] == old.tokens[slug]
        key = slug.replace("-", "_")
        row = installation.mongo["_mdb_engine_grants"].find_one({"_id": key})
        assert row is not None
        digest = hashlib.sha256(old.tokens[slug].encode()).digest()
        assert digest in [one["sha256"] for one in row["verifiers"]]
        assert installation.mongo[f"{slug}_rows"].count_documents({"app_id": slug}) == 2

    refused = migrate(installation, tmp_path, "--undo")
    assert refused.returncode == 1
    assert f"{installation.apps}/app00; delete that first" in refused.stderr

    installation.kubectl("delete", "mdbapp", "--all", "--timeout=60s")
    installation.stop(installation.processes[-1])
    undone = migrate(installation, tmp_path, "--undo")
    assert undone.returncode == 0, undone.stderr
    after = old.dump()
    after.pop("_mdb_engine_audit", None)
    assert after == before


def test_a_wrong_key_names_the_apps_and_never_the_key(
    installation: Installation, old: LegacyProgram, tmp_path: Path
) -> None:
    old.shop(2)
    before = old.dump()
    (tmp_path / "old.env").write_text(LegacyProgram(installation.mongo).key_text)
    refused = migrate(installation, tmp_path)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "The secret of app 'app00' does not open with the old master key" in refused.stderr
    (tmp_path / "old.env").write_text("not a key")
    refused = migrate(installation, tmp_path)
    assert refused.returncode == 1
    assert "of the earlier version" in refused.stderr
    assert "not a key" not in refused.stderr
    assert old.dump() == before
