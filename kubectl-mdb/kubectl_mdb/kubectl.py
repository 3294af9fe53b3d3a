"""Runs ``kubectl``, which knows the cluster and the person's credentials."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import click

from mdb_engine.models.mdbapp import GROUP, PLURAL

__all__ = ["Kubectl"]

RESOURCE = f"{PLURAL}.{GROUP}"
"""In full, so that no other group's resource of the name is ever meant."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Runs kubectl with the context and namespace that were asked for."""

    namespace: str | None = None
    context: str | None = None

    def run(self, *arguments: str, text: str | None = None) -> str:
        """Return what kubectl prints, given a text; what it complains of ends the command."""
        program = shutil.which("kubectl")
        if program is None:
            raise click.ClickException("kubectl is not on PATH")
        context = ["--context", self.context] if self.context else []
        done = subprocess.run(  # noqa: S603 - the user's own kubectl, no shell
            [program, *context, *arguments],
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise click.ClickException(done.stderr.strip() or f"kubectl: {done.returncode}")
        return done.stdout

    def json(self, *arguments: str) -> dict[str, Any]:
        """Return what kubectl prints, as data."""
        verb, *rest = arguments
        parsed: dict[str, Any] = json.loads(self.run(verb, "--output", "json", *rest))
        return parsed

    def app(self, name: str) -> dict[str, Any]:
        """Return the MdbApp of the name."""
        return self.json("get", RESOURCE, *self._in_namespace(), "--", name)

    def annotate(self, name: str, annotation: str) -> None:
        """Ask something of the operator."""
        # Any new value is a request; a time tells people when it was made.
        value = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
        patch = json.dumps({"metadata": {"annotations": {annotation: value}}})
        self.run(
            "patch", RESOURCE, *self._in_namespace(), "--type=merge", f"--patch={patch}", "--", name
        )

    def _in_namespace(self) -> list[str]:
        return ["--namespace", self.namespace] if self.namespace else []
