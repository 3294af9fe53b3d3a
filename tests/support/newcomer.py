"""A newcomer: a fresh checkout, and a shell that has just what the README lists.

What a document says to type is pasted into one shell, line by line, as from a page into a terminal.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from unit.docs.pages import inline_code, snippets

from devcluster.errors import DevclusterError
from devcluster.node.addresses import check_port, free_port

ROOT = Path(__file__).parents[2]

SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")

INSTALLED_BY_HAND = {"go", "helm", "kind", "kubectl", "kubectl-mdb", "uv", "uvx"}
"""What no system brings along, and no document of ours says to install first."""

OF_THE_TESTS = (
    *("DEVCLUSTER_NAME", "KUBECONFIG", "MAKE", "MDB_", "MFLAGS", "PYTEST_", "PYTHON"),
    *("UV", "VIRTUAL_ENV"),
)
"""Beginnings of variables that the tests' own processes have, and a newcomer does not."""

MARK = "::ended::"

END = "kill $(jobs -p) 2> /dev/null\n"
"""What was put into the background ends with the shell."""

Enter = Callable[[Sequence[str]], Sequence[str]]


_AMID_TEXT = re.compile(r"(?:[A-Z_]+=\S+ )*(?:docker|git|helm|kubectl|make|python3?|source|uv)\b")
"""How code within a paragraph begins that is a command."""


@dataclass(frozen=True)
class Outcome:
    """What came of one command.

    Parameters
    ----------
    command
        As it was pasted.
    code
        Its exit code.
    output
        What it printed, errors included.
    """

    command: str
    code: int
    output: str


@dataclass(frozen=True)
class Newcomer:
    """Somebody who has just cloned the repository.

    Parameters
    ----------
    checkout
        The clone.
    path
        The only directory on PATH.
    settings
        Variables that are set beforehand.
    enter
        Returns a command that runs another where ports of containers are on localhost.
    """

    checkout: Path
    path: Path
    settings: Mapping[str, str]
    enter: Enter

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the shell."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(OF_THE_TESTS)
        }
        return {**kept, **self.settings, "PATH": str(self.path)}

    def paste(
        self, commands: Sequence[str], *, directory: Path | None = None, timeout: float = 120
    ) -> list[Outcome]:
        """Paste commands into one shell and return what came of each; none may fail.

        Parameters
        ----------
        commands
            One or more lines each.
        directory
            Where the shell is opened; the top of the checkout unless given.
        timeout
            Seconds for all of them.
        """
        script = "".join(f"{command}\nprintf '\\n{MARK}%s\\n' $?\n" for command in commands)
        shell = subprocess.run(
            self.enter(["/bin/bash", "--noprofile", "--norc", "-s"]),
            input=f"cd {shlex.quote(str(directory or self.checkout))}\n{script}{END}",
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        printed = re.split(rf"\n{MARK}(\d+)\n", shell.stdout)
        outcomes = [
            Outcome(command, int(code), output)
            for command, output, code in zip(commands, printed[::2], printed[1::2], strict=False)
        ]
        failed = [
            f"$ {one.command}\n{one.output}\nexit code {one.code}" for one in outcomes if one.code
        ]
        assert not failed, "\n\n".join(failed)
        assert len(outcomes) == len(commands), shell.stdout
        return outcomes


def arrive(
    directory: Path,
    settings: Mapping[str, str] | None = None,
    *,
    programs: Mapping[str, Path] | None = None,
    enter: Enter = lambda command: command,
) -> Newcomer:
    """Give a newcomer a checkout of this state of the repository, and a PATH.

    Parameters
    ----------
    directory
        Where both are made.
    settings, enter
        As for `Newcomer`.
    programs
        Programs on PATH beside the system's, by their names.
    """
    checkout, path = directory / "mdb", directory / "bin"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():  # it may be removed and not committed yet
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
    path.mkdir()
    found = {
        program.name: program
        for system in SYSTEM_DIRECTORIES
        for program in Path(system).glob("*")
        if program.name not in INSTALLED_BY_HAND
    }
    found["python3"] = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    docker = shutil.which("docker")
    if docker:
        found["docker"] = Path(docker)
    for name, program in {**found, **(programs or {})}.items():
        (path / name).symlink_to(program)
    return Newcomer(checkout, path, settings or {}, enter)


def commands_of(page: str) -> list[str]:
    """Return every command of a page: those of its blocks as they follow, then those amid text."""
    in_blocks = [
        line.removeprefix("$ ").partition("  #")[0].strip()
        for one in snippets("sh", "console")
        if one.where.startswith(f"{page}:")
        for line in re.sub(r"\\\n\s*", "", one.code).splitlines()
        if one.language == "sh" or line.startswith("$ ")
    ]
    amid = dict.fromkeys(code for code in inline_code(page) if _AMID_TEXT.match(code))
    return [*filter(None, in_blocks), *(code for code in amid if code not in in_blocks)]


def commands_in(printed: str) -> list[str]:
    """Return every command that the demo prints at its end, in the order in which it does."""
    _, found, around = printed.partition("Look around")
    assert found, printed
    indented = [line.strip() for line in around.splitlines() if line.startswith("  ")]
    *_, last = around.strip().splitlines()
    return [*indented, last.partition(": ")[2]]


def two_free_ports() -> int:
    """Return the first of two neighbouring ports; the demo's Dashboard has the second."""
    while True:
        with suppress(DevclusterError):
            return check_port(free_port() + 1) - 1
