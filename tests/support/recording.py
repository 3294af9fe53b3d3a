"""A runner of programs that runs none: it keeps the commands and answers as it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from devcluster.errors import DevclusterError

Answer = str | DevclusterError | Callable[[], str]


class RecordingRun:
    """Stands for `devcluster.commands.run`.

    Parameters
    ----------
    answers
        By a part of the command: what it prints, the error that it ends with, or what to call.
        A command without an answer prints nothing.
    """

    def __init__(self, answers: Mapping[str, Answer] | None = None) -> None:
        self.answers = dict(answers or {})
        self.commands: list[str] = []
        self.environments: list[Mapping[str, str]] = []

    def __call__(
        self,
        command: Sequence[str | Path],
        *,
        what: str,
        timeout: float,
        hint: str = "",  # noqa: ARG002 - a part of what it stands for
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """Keep the command and give its answer."""
        assert what, "a failure names its step"
        assert timeout > 0, "every command has a deadline"
        line = " ".join(str(part) for part in command)
        self.commands.append(line)
        self.environments.append(environment or {})
        for part, answer in self.answers.items():
            if part in line:
                if isinstance(answer, DevclusterError):
                    raise answer
                return answer if isinstance(answer, str) else answer()
        return ""
