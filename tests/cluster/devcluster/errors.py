"""The one error that the command line turns into a message and an exit code."""

from __future__ import annotations


class DevclusterError(Exception):
    """Something that the person at the keyboard can put right.

    Parameters
    ----------
    message
        What is wrong, naming the step.
    hint
        What to do about it; empty when the message says it already.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message
