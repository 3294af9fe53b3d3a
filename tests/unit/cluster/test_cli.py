from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from devcluster import cli, detect, packages
from devcluster.errors import DevclusterError
from devcluster.progress import Progress, duration


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(detect.VARIABLE, "node")
    monkeypatch.delenv("DEVCLUSTER_NAME", raising=False)


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["devcluster", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_an_error_is_two_lines_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "env") == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == [
        "Error: The cluster 'devcluster' does not run",
        "Hint: Start it with `devcluster up`.",
    ]


def test_the_name_comes_from_the_option_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEVCLUSTER_NAME", "from-environment")
    assert run_main(monkeypatch, "status") == 1
    assert "'from-environment'" in capsys.readouterr().out
    assert run_main(monkeypatch, "status", "--name", "from-option") == 1
    assert "'from-option'" in capsys.readouterr().out


def test_a_port_without_its_control_plane_is_refused() -> None:
    outcome = CliRunner().invoke(cli.cli, ["up", "--port", "7000"])
    assert outcome.exit_code == 2
    assert "--port goes with --control-plane" in outcome.output


def test_down_without_a_cluster_says_so_and_succeeds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, "down") == 0
    assert capsys.readouterr().err == "There is no cluster 'devcluster'\n"


def test_what_a_user_without_root_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(packages, "find", lambda program: None if program == "runc" else "/x")
    monkeypatch.setattr(packages, "plugin_directory", lambda: None)
    with pytest.raises(DevclusterError, match="lacks runc, containernetworking-plugins") as caught:
        packages.require(packages.NODE, Progress())
    assert "apt-get install runc containernetworking-plugins" in caught.value.hint


def test_off_a_terminal_a_step_is_one_line() -> None:
    stream = io.StringIO()
    with Progress(stream).step("Compiling") as step:
        step.detail = "12 packages"
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("Compiling ... ")
    assert line.endswith(" s")


def test_a_step_that_fails_says_so() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="no"), Progress(stream).step("Compiling"):
        raise ValueError("no")
    assert stream.getvalue().startswith("Compiling ... failed after ")


def test_on_a_terminal_the_line_is_rewritten() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Progress(stream).step("Compiling"):
        pass
    assert stream.getvalue().startswith("\r\x1b[KCompiling ... ")
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.0 s"), (3.21, "3.2 s"), (59.99, "1 min 00 s"), (245, "4 min 05 s")]
)
def test_a_time_span_is_said_as_people_do(seconds: float, text: str) -> None:
    assert duration(seconds) == text
