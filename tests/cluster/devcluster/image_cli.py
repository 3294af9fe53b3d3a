"""``devcluster image``: build images and bring them to the cluster."""

from __future__ import annotations

from pathlib import Path

import click

from devcluster import images, providers
from devcluster.errors import DevclusterError
from devcluster.paths import cluster_name
from devcluster.progress import Progress


@click.group("image")
def image() -> None:
    """Build images, with Docker where there is an engine and buildah otherwise."""


@image.command("build")
@click.argument("context", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--tag", "-t", required=True, metavar="NAME:TAG", help="What to call the image.")
@click.option(
    "--file",
    "-f",
    "dockerfile",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The Dockerfile. [default: CONTEXT/Dockerfile]",
)
@click.option(
    "--build-arg", "arguments", multiple=True, metavar="NAME=VALUE", help="Set an ARG; repeatable."
)
@click.option("--load", is_flag=True, help="Load it into the cluster as well.")
@click.option("--name", default=cluster_name, help="Which cluster. [default: devcluster]")
def build(
    context: Path,
    tag: str,
    dockerfile: Path | None,
    arguments: tuple[str, ...],
    load: bool,  # noqa: FBT001 - click passes by name
    name: str,
) -> None:
    """Build an image from CONTEXT and print its name."""
    progress = Progress()
    spec = images.ImageSpec(
        tag=tag,
        context=context,
        dockerfile=dockerfile,
        arguments=dict(_pair(argument) for argument in arguments),
    )
    spec.checked()
    builder = images.choose_builder(progress)
    images.build(spec, progress, builder)
    if load:
        provider = providers.select(name, progress, starting=False)
        images.load(tag, provider.load_image, progress, builder)
    click.echo(tag)


@image.command("load")
@click.argument("tags", nargs=-1, required=True, metavar="NAME:TAG...")
@click.option("--name", default=cluster_name, help="Which cluster. [default: devcluster]")
def load(tags: tuple[str, ...], name: str) -> None:
    """Load built images into the cluster."""
    progress = Progress()
    provider = providers.select(name, progress, starting=False)
    builder = images.choose_builder(progress)
    for tag in tags:
        images.load(tag, provider.load_image, progress, builder)


def _pair(argument: str) -> tuple[str, str]:
    name, equals, value = argument.partition("=")
    if not (name and equals):
        raise DevclusterError(f"{argument!r} is no build argument.", "Say NAME=VALUE.")
    return name, value
