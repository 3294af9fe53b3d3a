"""The two ways to build an image from one Dockerfile: a Docker engine, or buildah without any.

Both honour ``ARG BASE``. A Docker engine fetches the Dockerfile's own default; buildah is used
where no registry may be in reach, so it is given a base that was made on this machine (see
`devcluster.base_image`).
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from devcluster.commands import Run, run
from devcluster.errors import DevclusterError
from devcluster.filelock import hold_if_free, share
from devcluster.paths import cache_dir, state_root

BUILD_DEADLINE_SECONDS = 1800.0
"""A cold build compiles nothing but may download much."""

STORE_DEADLINE_SECONDS = 300.0
"""Copying an image of some hundred megabytes takes seconds."""

OLD_BUILDS = 12
"""How many builds without a name are kept: the cache of a few images, and a bound on the disk."""

TIMESTAMP = "315532800"
"""Of everything in an image: 1980, the first year that zip files know.

Equal inputs then give equal layers. Python tells stale bytecode by its source's time, which this
changes: a Dockerfile that compiles must declare ``ARG SOURCE_DATE_EPOCH``, which makes Python
compare hashes instead. Otherwise every start of a pod compiles again.
"""

_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_LOGIN = "Log in to the registry (`docker login`, `buildah login`), and check the name."
_TAG = re.compile(r"[a-z0-9][a-z0-9._/:-]*:[A-Za-z0-9_][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """What to build.

    Parameters
    ----------
    tag
        The name with its tag, such as ``localhost/mdb-operator:dev``.
    context
        The directory that the Dockerfile copies from.
    dockerfile
        The Dockerfile; the context's own unless given.
    arguments
        Values of the Dockerfile's ``ARG``.
    """

    tag: str
    context: Path
    dockerfile: Path | None = None
    arguments: Mapping[str, str] = field(default_factory=dict)

    def checked(self) -> Path:
        """Return the Dockerfile after a look at everything that can be wrong with the request.

        Raises
        ------
        DevclusterError
            If the tag is malformed, or the context or the Dockerfile is not there.
        """
        if not _TAG.fullmatch(self.tag):
            raise DevclusterError(
                f"{self.tag!r} is no image name with a tag.",
                "Say NAME:TAG, such as localhost/mdb-operator:dev.",
            )
        if not self.context.is_dir():
            raise DevclusterError(f"The build context {self.context} is no directory.")
        dockerfile = self.dockerfile or self.context / "Dockerfile"
        if not dockerfile.is_file():
            raise DevclusterError(f"There is no Dockerfile at {dockerfile}.", "Name it with -f.")
        return dockerfile


class Builder(Protocol):
    """Builds images and hands them out as archives."""

    def build(self, spec: ImageSpec) -> None:
        """Build an image; raise `DevclusterError` with the build's last lines if it fails."""
        ...

    def save(self, tag: str, archive: Path) -> None:
        """Write an image as an archive in Docker's format, which containerd and kind read."""
        ...

    def push(self, tag: str) -> None:
        """Push an image to the registry that its name begins with."""
        ...


@dataclass(frozen=True, slots=True)
class DockerBuilder:
    """Builds with a Docker engine.

    Parameters
    ----------
    run
        Runs the programs.
    base
        The image that stands for ``ARG BASE``; empty for the Dockerfile's own, from a registry.
    """

    run: Run = run
    base: str = ""

    def build(self, spec: ImageSpec) -> None:
        """Build an image with the engine's own cache."""
        dockerfile = spec.checked()
        base = {"BASE": self.base} if self.base else {}
        arguments = {**base, "SOURCE_DATE_EPOCH": TIMESTAMP, **spec.arguments}
        self.run(
            [
                *("docker", "build", "--quiet", "--tag", spec.tag, "--file", dockerfile),
                *_build_arguments(arguments),
                spec.context,
            ],
            what=f"Building {spec.tag}",
            timeout=BUILD_DEADLINE_SECONDS,
            environment={"DOCKER_BUILDKIT": "1"},
        )

    def save(self, tag: str, archive: Path) -> None:
        """Write an image as an archive."""
        self.run(
            ["docker", "save", "--output", archive, tag],
            what=f"Saving {tag}",
            timeout=STORE_DEADLINE_SECONDS,
            hint=f"Build it first: devcluster image build --tag {tag} CONTEXT",
        )

    def push(self, tag: str) -> None:
        """Push an image."""
        self.run(
            ["docker", "push", "--quiet", tag],
            what=f"Pushing {tag}",
            timeout=BUILD_DEADLINE_SECONDS,
            hint=_LOGIN,
        )


@dataclass(frozen=True, slots=True)
class BuildahBuilder:
    """Builds with buildah in a store of our own; no daemon, no registry.

    Parameters
    ----------
    base
        The image that stands for ``ARG BASE``.
    """

    base: str
    run: Run = run

    def build(self, spec: ImageSpec) -> None:
        """Build an image, step by step from the cache of the store."""
        dockerfile = spec.checked()
        arguments = {"BASE": self.base, "SOURCE_DATE_EPOCH": TIMESTAMP, **spec.arguments}
        with share(_use_lock()):
            self.run(
                [
                    *buildah(self.run),
                    *("build", "--isolation", "chroot", "--layers", "--force-rm", "--pull-never"),
                    *("--quiet", "--timestamp", TIMESTAMP, "--tag", spec.tag),
                    *("--file", dockerfile),
                    *_mounts(),
                    *_build_arguments(arguments),
                    spec.context,
                ],
                what=f"Building {spec.tag}",
                timeout=BUILD_DEADLINE_SECONDS,
            )
        # A build that looks through the store for what it can use fails over what goes meanwhile.
        with hold_if_free(_use_lock()) as alone:
            if alone:
                self._forget_old_builds()

    def _forget_old_builds(self) -> None:
        """Remove the images without a name, but for the newest; layers still in use stay.

        Their age is that of their files: the time in them is the same for all.
        """
        command = buildah(self.run)
        listing = self.run(
            [*command, "images", "--quiet", "--no-trunc", "--filter", "dangling=true"],
            what="Listing old builds",
            timeout=STORE_DEADLINE_SECONDS,
        )
        names = {line.removeprefix("sha256:") for line in listing.split()}
        kept = [path for path in _store().glob("*/*-images/*") if path.name in names]
        kept.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in kept[OLD_BUILDS:]:
            with contextlib.suppress(DevclusterError):  # a container of a killed build uses it
                self.run(
                    [*command, "rmi", path.name],
                    what="Removing an old build",
                    timeout=STORE_DEADLINE_SECONDS,
                )

    def save(self, tag: str, archive: Path) -> None:
        """Write an image as an archive."""
        with share(_use_lock()):
            self.run(
                [*buildah(self.run), "push", "--quiet", tag, f"docker-archive:{archive}:{tag}"],
                what=f"Saving {tag}",
                timeout=STORE_DEADLINE_SECONDS,
                hint=f"Build it first: devcluster image build --tag {tag} CONTEXT",
            )

    def push(self, tag: str) -> None:
        """Push an image; to this machine itself without TLS, too, as a Docker engine does."""
        local = re.match(r"(?:localhost|127\.[0-9.]+)[:/]", tag)
        with share(_use_lock()):
            self.run(
                [
                    *(*buildah(self.run), "push", "--quiet"),
                    *(["--tls-verify=false"] if local else []),
                    *(tag, f"docker://{tag}"),
                ],
                what=f"Pushing {tag}",
                timeout=BUILD_DEADLINE_SECONDS,
                hint=_LOGIN,
            )


def buildah(run: Run = run) -> list[str]:
    """Return the command for buildah with the store that is ours, found to work on this disk.

    Overlay is twenty times as fast as copying (``vfs``) but needs root, and a disk that is no
    overlay itself. Which one works is tried once and noted in the store.
    """
    store = _store()
    noted = store / "driver"
    if not noted.exists():
        noted.write_text("overlay" if _overlay_works(store, run) else "vfs")
    return _buildah(store, noted.read_text())


def _store() -> Path:
    store = cache_dir() / "images"
    store.mkdir(mode=0o700, exist_ok=True)
    return store


def _use_lock() -> Path:
    """Return the lock that whoever uses the store shares, and whoever removes from it holds."""
    return cache_dir() / "images.lock"


def _buildah(store: Path, driver: str) -> list[str]:
    return [
        *("buildah", "--root", str(store / driver)),
        *("--runroot", str(state_root() / ".images" / driver)),
        *("--storage-driver", driver),
    ]


def _overlay_works(store: Path, run: Run) -> bool:
    if os.geteuid() != 0:
        return False
    overlay = _buildah(store, "overlay")
    try:
        name = run([*overlay, "from", "scratch"], what="Trying overlay", timeout=60).strip()
        try:
            run([*overlay, "mount", name], what="Trying overlay", timeout=60)
        finally:
            run([*overlay, "rm", name], what="Trying overlay", timeout=60)
    except DevclusterError:
        return False
    return True


def _build_arguments(arguments: Mapping[str, str]) -> list[str]:
    return [
        part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")
    ]


def host_files() -> dict[str, Path]:
    """Return what lets a build trust, and find, the package index that this host does.

    Returns
    -------
    dict
        For each path in an image, the file of this host that belongs there.
    """
    files = {}
    trusted = ssl.get_default_verify_paths().cafile
    for candidate in (trusted, _CERTIFICATES, "/etc/pki/tls/certs/ca-bundle.crt"):
        if candidate and Path(candidate).is_file():
            files[_CERTIFICATES] = Path(candidate).resolve()
            break
    if Path("/etc/pip.conf").is_file():
        files["/etc/pip.conf"] = Path("/etc/pip.conf")
    return files


def _mounts() -> list[str]:
    return [
        part for path, file in host_files().items() for part in ("--volume", f"{file}:{path}:ro")
    ]
