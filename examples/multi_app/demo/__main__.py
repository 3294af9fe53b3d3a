"""``make demo``: from a fresh clone to two apps in pods that share data, and what that means."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time

import click
import forwarding
import settings
import story
from installation import Installation

from devcluster.errors import DevclusterError
from devcluster.progress import Progress, duration

LOOK_AROUND = """
Both apps run:

  ClickTracker  {click_tracker}
  Dashboard     {dashboard}/dashboard

Look around, from the top of the checkout:

  source {environment}
  kubectl get mdbapps -A
  kubectl mdb -n {shop} status dashboard
  kubectl -n {shop} describe mdbapp dashboard
  kubectl -n {shop} get secret click-tracker-mdb
  kubectl -n {system} exec deployment/{release} -- mdb-operator audit

When you have seen enough: {again}make demo-down
"""

CHOICES = ("DEVCLUSTER", "DEMO_CLUSTER", "DEMO_REGISTRY", "DEMO_SYSTEM", "DEMO_SHOP")
"""Variables that say which demo is meant: whoever set one needs it for ``make demo-down``, too."""


def look_around(installation: Installation) -> None:
    """Say where both apps are and what there is to see, as commands that work as they stand."""
    environment = installation.write_environment()
    chosen = [f"{name}={shlex.quote(os.environ[name])} " for name in CHOICES if name in os.environ]
    click.echo(
        LOOK_AROUND.format(
            click_tracker=settings.CLICK_TRACKER,
            dashboard=settings.DASHBOARD,
            environment=environment.relative_to(settings.ROOT),
            shop=settings.SHOP,
            system=settings.SYSTEM,
            release=settings.RELEASE,
            again="".join(chosen),
        )
    )


@click.group()
def demo() -> None:
    """Run two example apps on a real cluster."""


@demo.command()
def up() -> None:
    """Install everything, show it, and leave it running."""
    started = time.monotonic()
    progress = Progress()
    installation = Installation(progress, starting=True)
    if installation.runs():
        progress.note("The demo runs already (make demo-down removes it)")
        forwarding.start(installation.environment)
        story.await_urls(progress)
        look_around(installation)
        return
    forwarding.require_free_ports()  # now, not after minutes of installing
    installation.install()
    forwarding.start(installation.environment)
    story.await_urls(progress)
    story.track_clicks(progress, count=25)
    story.show_denied_access(installation, progress)
    story.rotate_while_clicking(installation, progress)
    progress.note(f"All of it took {duration(time.monotonic() - started)}")
    look_around(installation)


@demo.command()
def down() -> None:
    """Remove the cluster and all that ran on it."""
    progress = Progress()
    forwarding.stop()
    shutil.rmtree(settings.DIRECTORY, ignore_errors=True)
    if not Installation(progress).remove():
        progress.note("The demo does not run")


if __name__ == "__main__":
    try:
        demo()
    except DevclusterError as error:
        click.echo(f"Error: {error.message}", err=True)
        if error.hint:
            click.echo(f"Hint: {error.hint}", err=True)
        sys.exit(1)
