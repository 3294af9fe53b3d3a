"""The command line: ``devcluster``."""

from __future__ import annotations

import os
import shlex
import sys
import textwrap
from pathlib import Path

import click

from devcluster import build, detect, images, kind, paths
from devcluster.engine.cli import engine
from devcluster.errors import DevclusterError
from devcluster.image_cli import image
from devcluster.mongo_cli import mongo
from devcluster.mongod_binary import find_mongod
from devcluster.node import launch
from devcluster.node.record import Kind
from devcluster.progress import Progress
from devcluster.provider import Status
from devcluster.providers import select

_LINE = 300
"""Characters of a component's last line; some print whole objects."""

_name = click.option(
    "--name",
    envvar=paths.NAME_VARIABLE,
    default=paths.DEFAULT_NAME,
    show_default=True,
    help="Which cluster.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Run a real Kubernetes cluster and a real MongoDB on this machine.

    With a Docker engine the cluster is kind's; on Linux without one it is a node out of this
    machine's own processes. DEVCLUSTER=kind, node or kubeconfig chooses, and
    DEVCLUSTER_KUBERNETES=1.37, say, another Kubernetes minor for the single node.
    """


@cli.command()
@_name
@click.option(
    "--control-plane",
    "control_plane_only",
    is_flag=True,
    help="API server and controllers only: needs no root, runs no pods.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="The API server's port, with --control-plane and no Docker. [default: a free one]",
)
def up(name: str, *, control_plane_only: bool, port: int | None) -> None:
    """Start the cluster, unless it runs already."""
    if port is not None and not control_plane_only:
        raise click.UsageError("--port goes with --control-plane: a node has addresses of its own")
    progress = Progress()
    provider = select(name, progress, port=port, starting=True)
    provider.up(control_plane_only=control_plane_only)
    progress.note(provider.status().summary)
    option = "" if name == paths.cluster_name() else f" --name {name}"
    here = os.path.relpath(Path(sys.executable).with_name("devcluster"))  # PATH may not have it
    progress.note(f'eval "$({here} env{option})" makes kubectl and helm use it')


@cli.command()
@click.option(
    "--also",
    "others",
    multiple=True,
    type=click.Choice(sorted(build.FOR_TESTS)),
    help="A program that only tests need.",
)
def prepare(others: tuple[str, ...]) -> None:
    """Install and compile what clusters, images and MongoDB need, and start nothing.

    Everything does this by itself when it is first needed; this shows it while it happens.
    """
    progress = Progress()
    find_mongod(progress.note)
    for name in others:
        build.ensure(build.FOR_TESTS[name], progress)
    choice = detect.choose()
    if os.environ.get(detect.VARIABLE) == detect.Choice.KIND:
        kind.prepare(progress)
    if choice is not detect.Choice.NODE:
        return
    pods = os.geteuid() == 0
    kind_of_cluster = Kind.NODE if pods else Kind.CONTROL_PLANE
    launch.provide(kind_of_cluster, detect.kubernetes_minor(), progress)
    if pods:
        images.choose_builder(progress)


@cli.command()
@_name
def down(name: str) -> None:
    """Remove the cluster and everything that belongs to it."""
    if not select(name, starting=False).down():
        Progress().note(f"There is no cluster {name!r}")


@cli.command()
@_name
def status(name: str) -> None:
    """Tell how the cluster fares; fails unless all of it works."""
    provider = select(name, starting=False)
    found = provider.status()
    _print_status(found)
    if not found.healthy:
        sys.exit(1)


@cli.command()
@_name
def env(name: str) -> None:
    """Print the shell commands that make kubectl and helm use the cluster."""
    provider = select(name, starting=False)
    click.echo(f"export KUBECONFIG={shlex.quote(str(provider.kubeconfig()))}")
    tools = provider.tools()
    if tools is not None:
        click.echo(f"export PATH={shlex.quote(str(tools))}{os.pathsep}$PATH")


cli.add_command(engine)
cli.add_command(image)
cli.add_command(mongo)


def main() -> None:
    """Run the command line, and turn what the user can put right into two lines."""
    try:
        cli()
    except DevclusterError as error:
        click.echo(f"Error: {error.message}", err=True)
        if error.hint:
            click.echo(f"Hint: {error.hint}", err=True)
        sys.exit(1)


def _print_status(found: Status) -> None:
    click.echo(found.summary)
    width = max((len(component.name) for component in found.components), default=0)
    for component in found.components:
        click.echo(f"  {component.name:<{width}}  {component.detail}")
        if not component.healthy:
            last_line = textwrap.shorten(component.last_line, _LINE) or "it wrote nothing"
            click.echo(f"  {'':<{width}}  last line: {last_line}")
            click.echo(f"  {'':<{width}}  log: {component.log}")
