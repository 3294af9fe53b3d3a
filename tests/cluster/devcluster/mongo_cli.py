"""``devcluster mongo``: a real MongoDB replica set, started and stopped by hand.

The URI alone goes to standard output, so that ``export MDB_TEST_URI=$(devcluster mongo up)``
works; everything for a human goes to standard error.
"""

from __future__ import annotations

import click

from devcluster import mongo_daemon
from devcluster.mongo import MongoConfig
from devcluster.paths import cluster_name

_name = click.option("--name", default=cluster_name, help="Which server. [default: devcluster]")


@click.group("mongo")
def mongo() -> None:
    """Run a real MongoDB: a single-node replica set that keeps nothing."""


@mongo.command("up")
@_name
@click.option("--auth", is_flag=True, help="Demand a login; the URI holds a root user's.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port. [default: a free one]")
@click.option(
    "--bind",
    "binds",
    multiple=True,
    metavar="ADDRESS",
    help="Listen on this address as well as on 127.0.0.1; clients are told to use it.",
)
def up(name: str, auth: bool, port: int | None, binds: tuple[str, ...]) -> None:  # noqa: FBT001
    """Start it, unless it runs already, and print its URI."""
    advertise = binds[0] if binds else "127.0.0.1"
    config = MongoConfig(auth=auth, port=port, bind=binds, advertise=advertise)
    click.echo(mongo_daemon.up(name, config, _report))


@mongo.command("down")
@_name
def down(name: str) -> None:
    """Stop it and remove its data."""
    if mongo_daemon.down(name):
        _report("stopped")
    else:
        _report(f"no MongoDB named {name!r} runs")


@mongo.command("uri")
@_name
def uri(name: str) -> None:
    """Print the URI of the running server."""
    click.echo(mongo_daemon.uri(name))


def _report(line: str) -> None:
    click.echo(line, err=True)
