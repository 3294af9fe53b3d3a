"""Run a program to its end and turn a failure into an error that a person can act on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from devcluster.errors import DevclusterError

TAIL_LINES = 12
"""What a program printed last is nearly always why it failed."""


class Run(Protocol):
    """Runs a program to its end; what tests replace to see the commands."""

    def __call__(
        self,
        command: Sequence[str | Path],
        *,
        what: str,
        timeout: float,
        hint: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Return what the program printed on standard output.

        Parameters
        ----------
        command
            The program and its arguments.
        what
            What it is run for, as the beginning of "… failed".
        timeout
            Seconds after which it is killed.
        hint
            What to do when it fails.
        environment
            Variables to set besides those of this process.

        Raises
        ------
        DevclusterError
            If it cannot be started, fails, or takes too long.
        """
        ...


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    timeout: float,
    hint: str = "",
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run a program as `Run` describes it."""
    try:
        outcome = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env={**os.environ, **(environment or {})},
            check=False,
        )
    except FileNotFoundError:
        raise DevclusterError(f"{what} failed: {command[0]} is not installed", hint) from None
    except subprocess.TimeoutExpired:
        raise DevclusterError(
            f"{what} failed: {command[0]} did not end within {timeout:.0f} s", hint
        ) from None
    if outcome.returncode != 0:
        printed = (outcome.stdout + "\n" + outcome.stderr).strip().splitlines()
        tail = "\n".join(line for line in printed if line.strip()) or "it printed nothing"
        tail = "\n".join(tail.splitlines()[-TAIL_LINES:])
        raise DevclusterError(f"{what} failed:\n{tail}", hint)
    return outcome.stdout
