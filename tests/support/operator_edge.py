"""What tests of the operator's edge need beside fixtures."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import SECRET_KEYS
from mdb_operator.kubernetes.secrets import DesiredSecret
from mdb_operator.process.metrics import WRITE_VERBS
from support.waiting import wait_until

Request = tuple[str, str, int]
"""Verb, resource and HTTP status of a request to the API server."""

Requests = Sequence[Request]


def writes(requests: Requests) -> list[str]:
    """Return the verbs of the requests that change something."""
    return [verb for verb, _, _ in requests if verb in WRITE_VERBS]


def desired_secret(owner: Owner, name: str = "dashboard-mdb", value: str = "v") -> DesiredSecret:
    """Return a projected Secret whose entries all hold the value."""
    return DesiredSecret(owner, name, dict.fromkeys(SECRET_KEYS, value))


@dataclass
class Process:
    """A process of a test, with what it wrote so far."""

    popen: subprocess.Popen[bytes]
    output: Path

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, text: str, deadline: float = 60) -> None:
        def seen() -> bool:
            return text in self.text() or self.popen.poll() is not None

        wait_until(seen, deadline=deadline, message=lambda: f"{text!r} in:\n{self.text()}")
        assert text in self.text(), f"ended with {self.popen.poll()}:\n{self.text()}"

    def wait_end(self, deadline: float = 60) -> int:
        wait_until(
            lambda: self.popen.poll() is not None,
            deadline=deadline,
            message=lambda: f"the end of the process; it wrote:\n{self.text()}",
        )
        return int(self.popen.returncode)
