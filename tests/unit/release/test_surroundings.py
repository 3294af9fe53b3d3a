"""Workflows, updates and audits name what is there; images leave out no more than they say."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mdb_release.audit import ask_index
from mdb_release.commands import run, uv

ROOT = Path(__file__).resolve().parents[3]

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job.get("steps", [job])]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_of_others_are_named_by_commit(workflow: Path) -> None:
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used
    assert [
        one for one in used if not one.startswith("./") and not re.search(r"@[0-9a-f]{40}$", one)
    ] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_begin_without_rights_and_call_targets_that_exist(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = "\n".join(step.get("run", "") for step in steps(workflow))
    assert set(re.findall(r"\bmake ([a-z-]+)", commands)) <= set(targets)
    scripts = re.findall(r"^\.ci/\S+", commands, re.MULTILINE)
    assert all((ROOT / script).is_file() for script in scripts)


def test_updates_are_looked_for_wherever_something_is_pinned() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    looked_for = {
        (one["package-ecosystem"], found.relative_to(ROOT).as_posix())
        for one in updates
        for pattern in one.get("directories", [one.get("directory")])
        for found in ([ROOT] if pattern == "/" else ROOT.glob(pattern.strip("/")))
    }
    files = {"uv": "uv.lock", "gomod": "go.mod", "npm": "package-lock.json"}
    for ecosystem, name in files.items():
        listed = subprocess.run(
            ["git", "ls-files", name, f"**/{name}"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.split()  # fmt: skip
        pinned = {(ecosystem, Path(path).parent.as_posix()) for path in listed}
        assert pinned
        assert pinned <= looked_for
    assert {("docker", "release/base"), ("pip", "operator/image")} <= looked_for


def test_the_base_is_pinned_and_is_the_one_that_other_builds_take() -> None:
    [pinned] = re.findall(
        r"^FROM (\S+)@sha256:[0-9a-f]{64}$",
        (ROOT / "release/base/Dockerfile").read_text(),
        re.MULTILINE,
    )
    assert f"\nARG BASE={pinned}\n" in (ROOT / "operator/Dockerfile").read_text()


def test_one_build_backend_makes_the_wheels_of_a_release_and_those_in_the_image() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    [version] = (one["version"] for one in locked if one["name"] == "hatchling")
    assert settings["build-constraint-dependencies"] == [f"hatchling=={version}"]


def test_an_audit_that_gets_no_answer_says_so_and_fails_in_ci() -> None:
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT / "release")}
    for ci, code in (({}, 0), ({"CI": "true"}, 1)):
        done = subprocess.run(
            [sys.executable, "-m", "mdb_release", "audit"],
            cwd=ROOT, env={**nowhere, **ci}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.startswith("NOT CHECKED for vulnerabilities: "), done.stderr
        assert done.returncode == code


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_what_the_image_is_made_of_has_wheels_for_each_machine(machine: str) -> None:
    needed = run(
        uv(), "export", "--quiet", "--frozen", "--no-dev", "--no-emit-workspace", "--no-hashes",
        "--package", "mdbapp-operator", "--extra", "key-managers",
    )  # fmt: skip
    names = set(re.findall(r"^([^\s=]+)==", needed, re.MULTILINE))
    assert len(names) > 50
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    fits = re.compile(rf"(-none-any|-manylinux\S*_{machine})\S*\.whl$")
    lacking = [
        one["name"]
        for one in locked
        if one["name"] in names
        and not any(fits.search(wheel["url"]) for wheel in one.get("wheels", ()))
    ]
    assert lacking == []


@pytest.fixture
def index() -> Iterator[str]:
    """Give a package index; of ``old``, it tells of the newest version alone."""
    bug = {"id": "PYSEC-1", "fixed_in": ["2.0"], "withdrawn": None}
    mistake = {**bug, "id": "PYSEC-2", "withdrawn": "2026-01-01T00:00:00Z"}
    pages = {
        "/pypi/bad/1.0/json": {"info": {"version": "1.0"}, "vulnerabilities": [bug, mistake]},
        "/pypi/good/json": {"info": {"version": "3.1"}, "vulnerabilities": []},
        "/pypi/old/json": {"info": {"version": "9.0"}, "vulnerabilities": []},
    }

    class Pages(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path)
            self.send_response(404 if found is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def test_the_index_is_asked_about_each_version_and_says_what_it_does_not_know(index: str) -> None:
    locked = {("bad", "1.0"): index, ("good", "3.1"): index, ("old", "8.0"): index}
    answer = ask_index(locked)
    assert answer.source.startswith("the package index, on ")
    assert answer.found == ["bad 1.0: PYSEC-1 (mended in ['2.0'])"]
    assert answer.unknown == ["old 8.0"]


def test_an_index_that_cannot_be_reached_gives_no_answer() -> None:
    with pytest.raises(httpx.ConnectError):
        ask_index({("good", "3.1"): "http://127.0.0.1:9/simple"})


def test_what_an_image_leaves_out_is_not_in_its_record(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    kept, gone = "kubernetes/client/rest.py", "kubernetes/aio/client/api/apps_v1_api.py"
    lines = []
    for name in (kept, gone):
        file = packages / name
        file.parent.mkdir(parents=True)
        file.write_text(f"# {name}\n")
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).decode()
        lines.append(f"{name},sha256={digest.rstrip('=')},{file.stat().st_size}\n")
    record = packages / "kubernetes-37.0.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("".join(lines))
    command: list[str | Path] = [sys.executable, ROOT / "operator" / "image" / "prune.py", tmp_path]
    subprocess.run(command, check=True)
    assert record.read_text() == lines[0]
    assert (packages / kept).exists()
    assert not (packages / gone).exists()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "out of date" in again.stderr
