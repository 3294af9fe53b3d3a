"""``devcluster engine``: a Docker engine for a machine that has none."""

from __future__ import annotations

import os
import shlex

import click

from devcluster.detect import docker_answers
from devcluster.engine import own
from devcluster.errors import DevclusterError
from devcluster.progress import Progress


@click.group("engine")
def engine() -> None:
    """Run a Docker engine in namespaces of its own, on Debian, as root.

    It leaves the machine's rules and interfaces alone. DEVCLUSTER=kind starts it by itself.
    """


@engine.command()
def up() -> None:
    """Start the engine unless it runs, and keep it until `down`."""
    progress = Progress()
    own.up(progress)
    progress.note(f"Ports that containers publish are at {own.address()}")
    progress.note('eval "$(devcluster engine env)" makes docker use it')


@engine.command()
def down() -> None:
    """Remove the engine, its containers and their volumes; images stay in the cache."""
    if not own.down():
        Progress().note("The Docker engine did not run")


@engine.command()
def check() -> None:
    """Fail, with the reason, where no engine answers and none can be started."""
    if not docker_answers() and (reason := own.why_not()):
        raise DevclusterError(f"No Docker engine answers `docker info`, and {reason}")


@engine.command()
def env() -> None:
    """Print the shell commands that make docker use the engine."""
    if not own.runs():
        raise DevclusterError("The Docker engine does not run", "Start it: devcluster engine up")
    for name, value in own.environment().items():
        click.echo(f"export {name}={shlex.quote(value)}")


@engine.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def execute(command: tuple[str, ...]) -> None:
    """Run COMMAND where ports that containers publish are on localhost."""
    inside = own.inside(command)
    os.execvpe(inside[0], inside, os.environ | own.environment())  # noqa: S606
