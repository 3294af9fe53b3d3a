"""The operator's image: built by buildah without a daemon, packed as an OCI layout."""

from __future__ import annotations

import re
import secrets
import tempfile
from pathlib import Path
from typing import Any

import click

from devcluster.base_image import BUILDAH, ensure_base
from devcluster.commands import run as run_program
from devcluster.errors import DevclusterError
from devcluster.image_builders import BUILD_DEADLINE_SECONDS, buildah, host_files
from devcluster.packages import require
from devcluster.progress import Progress
from mdb_release import archives
from mdb_release.archives import Image
from mdb_release.source import Source

PULL_SECONDS = 120.0
"""A registry behind a wall that drops packets is none; the base is some 50 MB."""


def build(source: Source, *, base: str) -> Image:
    """Build the image for this machine's platform.

    Nothing comes from an earlier build: a layer of another day would show in the bytes.

    Parameters
    ----------
    source
        What to build.
    base
        ``registry``: the image that release/base/Dockerfile names by its digest. ``debian``: one
        that is made of this machine's Debian packages. ``auto``: the first that can be had.

    Raises
    ------
    click.ClickException, DevclusterError
        If the base cannot be had or the build fails.
    """
    progress = Progress()
    require([BUILDAH], progress)
    chosen = _base(source, base, progress)
    name = f"localhost/mdb-operator:release-{secrets.token_hex(8)}"
    files = host_files().items()
    mounts = [part for path, file in files for part in ("--volume", f"{file}:{path}:ro")]
    arguments = {
        "BASE": chosen,
        "VERSION": source.chart_version,
        "REVISION": source.commit,
        "SOURCE_DATE_EPOCH": str(source.epoch),
    }
    with (
        progress.step("Building the operator's image"),
        tempfile.TemporaryDirectory(prefix="mdb-release-") as directory,
    ):
        _buildah(
            *("build", "--isolation", "chroot", "--no-cache", "--pull-never", "--quiet"),
            *("--format", "oci", "--timestamp", str(source.epoch), "--tag", name, *mounts),
            *("--label", f"org.opencontainers.image.base.name={_described(chosen)}"),
            *(part for pair in arguments.items() for part in ("--build-arg", "=".join(pair))),
            *("--file", source.directory / "operator" / "Dockerfile", source.directory),
        )
        try:
            _buildah("push", "--quiet", name, f"oci:{directory}:{source.chart_version}")
        finally:
            _buildah("rmi", name)
        [image] = archives.images(archives.files_in(Path(directory)))
    return image


def pack(images: list[Image], source: Source, out: Path) -> str:
    """Write an archive of one image for all its platforms, and return its digest.

    Parameters
    ----------
    images
        One a platform.
    source
        What they were built from.
    out
        The archive.

    Raises
    ------
    click.ClickException
        If an image is of another commit or version, or two are of one platform.
    """
    parts: dict[str, tuple[dict[str, Any], Image]] = {}
    for image in images:
        config = image.config
        labels = config["config"]["Labels"]
        made_of = [labels[f"org.opencontainers.image.{name}"] for name in ("version", "revision")]
        if made_of != [source.chart_version, source.commit]:
            raise click.ClickException(f"An image is of {' '.join(made_of)}, not of this release.")
        platform: dict[str, Any] = {
            key: config[key] for key in ("architecture", "os", "variant") if key in config
        }
        if parts.setdefault(str(platform), (platform, image))[1] is not image:
            raise click.ClickException(f"Two images are for {platform}.")
    manifests = [
        archives.descriptor(image.blobs[0], archives.MANIFEST, platform=platform)
        for _, (platform, image) in sorted(parts.items())
    ]
    index = archives.document(
        {"schemaVersion": 2, "mediaType": archives.INDEX, "manifests": manifests}
    )
    top = archives.descriptor(
        index,
        archives.INDEX,
        annotations={"org.opencontainers.image.ref.name": source.chart_version},
    )
    blobs = [index, *(blob for image in images for blob in image.blobs)]
    out.write_bytes(archives.tar(archives.layout(blobs, top), source.epoch))
    return str(top["digest"])


def _base(source: Source, wanted: str, progress: Progress) -> str:
    dockerfile = (source.directory / "release" / "base" / "Dockerfile").read_text(encoding="utf-8")
    [pinned] = re.findall(r"^FROM (\S+@sha256:[0-9a-f]{64})$", dockerfile, flags=re.MULTILINE)
    if wanted != "debian":
        try:
            with progress.step("Fetching the base image"):
                _buildah("pull", "--quiet", f"docker.io/library/{pinned}", seconds=PULL_SECONDS)
        except DevclusterError:
            if wanted == "registry":
                raise
            progress.note("no registry is in reach: the base is made of Debian's packages")
        else:
            return f"docker.io/library/{pinned}"
    return ensure_base(progress)


def _described(base: str) -> str:
    return base if "@sha256:" in base else base.removeprefix("localhost/devcluster/")


def _buildah(*arguments: str | Path, seconds: float = BUILD_DEADLINE_SECONDS) -> str:
    return run_program([*buildah(), *arguments], what=f"buildah {arguments[0]}", timeout=seconds)
