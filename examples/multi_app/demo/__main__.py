"""``make demo``: from a fresh clone to two apps in pods that share data, and what that means."""

from __future__ import annotations

import sys
import time

import click
import forwarding
import settings
import story
from installation import Installation

from devcluster.errors import DevclusterError
from devcluster.progress import Progress, duration

LOOK_AROUND = f"""
Both apps run:

  ClickTracker  {settings.CLICK_TRACKER}
  Dashboard     {settings.DASHBOARD}/dashboard

Look around:

  eval "$(uv run devcluster env --name {settings.CLUSTER})"
  kubectl get mdbapps -A
  kubectl -n {settings.SHOP} describe mdbapp dashboard
  kubectl -n {settings.SHOP} get secret click-tracker-mdb
  kubectl -n {settings.SYSTEM} exec deployment/{settings.RELEASE} -- mdb-operator audit

When you have seen enough: make demo-down
"""


@click.group()
def demo() -> None:
    """Run two example apps on a real cluster."""


@demo.command()
def up() -> None:
    """Install everything, show it, and leave it running."""
    started = time.monotonic()
    progress = Progress()
    installation = Installation(progress)
    if installation.runs():
        progress.note("The demo runs already (make demo-down removes it)")
        forwarding.start(installation.environment)
        story.await_urls(progress)
        click.echo(LOOK_AROUND)
        return
    forwarding.require_free_ports()  # now, not after minutes of installing
    installation.install()
    forwarding.start(installation.environment)
    story.await_urls(progress)
    story.track_clicks(progress, count=25)
    story.show_denied_access(installation, progress)
    story.rotate_while_clicking(installation, progress)
    progress.note(f"All of it took {duration(time.monotonic() - started)}")
    click.echo(LOOK_AROUND)


@demo.command()
def down() -> None:
    """Remove the cluster and all that ran on it."""
    progress = Progress()
    forwarding.stop()
    if not Installation(progress).provider.down():
        progress.note("The demo does not run")


if __name__ == "__main__":
    try:
        demo()
    except DevclusterError as error:
        click.echo(f"Error: {error.message}", err=True)
        if error.hint:
            click.echo(f"Hint: {error.hint}", err=True)
        sys.exit(1)
