"""Build images and bring them to a cluster, with whatever the machine has."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from devcluster.base_image import ensure_base, ensure_engine_base
from devcluster.commands import Run, run
from devcluster.detect import docker_answers
from devcluster.engine import own
from devcluster.errors import DevclusterError
from devcluster.image_builders import BuildahBuilder, Builder, DockerBuilder, ImageSpec
from devcluster.progress import Progress

__all__ = ["ImageSpec", "build", "can_pull", "choose_builder", "load", "push"]

PYTHON_IMAGE = "python:3.11-slim-bookworm"
"""What our Dockerfiles build on, unless told otherwise."""

REGISTRY_SECONDS = 20.0
"""A registry behind a wall that drops packets is none."""


def choose_builder(progress: Progress, run: Run = run) -> Builder:
    """Return the Docker engine's builder where an engine answers, else buildah with our base.

    An engine of our own is used where no registry may be in reach; it then gets our base, too.
    """
    if docker_answers():
        reached = not own.in_use() or can_pull(PYTHON_IMAGE, run)
        return DockerBuilder(run, "" if reached else ensure_engine_base(progress, run))
    return BuildahBuilder(ensure_base(progress, run), run)


def can_pull(tag: str, run: Run = run) -> bool:
    """Say whether the engine reaches the registry of an image, and finds it there."""
    try:
        run(
            ["docker", "manifest", "inspect", tag],
            what="Asking the registry",
            timeout=REGISTRY_SECONDS,
        )
    except DevclusterError:
        return False
    return True


def build(spec: ImageSpec, progress: Progress, builder: Builder | None = None) -> None:
    """Build an image.

    Raises
    ------
    DevclusterError
        If the request is wrong or the build fails; with the last lines of the build.
    """
    spec.checked()
    builder = builder or choose_builder(progress)
    with progress.step(f"Building {spec.tag}"):
        builder.build(spec)


def load(
    tag: str,
    load_archive: Callable[[Path], None],
    progress: Progress,
    builder: Builder | None = None,
) -> None:
    """Bring a built image to a cluster, where pods use it with ``imagePullPolicy: IfNotPresent``.

    Parameters
    ----------
    tag
        Of an image built before.
    load_archive
        The provider's way to take an archive in Docker's format.
    progress
        Shows what is done.
    builder
        Who has built it; the machine's choice unless given.
    """
    builder = builder or choose_builder(progress)
    with (
        tempfile.TemporaryDirectory(prefix="devcluster-image-") as work,
        progress.step(f"Loading {tag}"),
    ):
        archive = Path(work) / "image.tar"
        builder.save(tag, archive)
        load_archive(archive)


def push(tag: str, progress: Progress, builder: Builder) -> None:
    """Push a built image to the registry that its name begins with."""
    with progress.step(f"Pushing {tag}"):
        builder.push(tag)
