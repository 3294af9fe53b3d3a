"""A base image with Python, made from Debian's packages for machines that reach no registry.

It stands where ``python:3.11-slim-bookworm`` stands with Docker. The packages come from the
machine's own sources, so nothing here names a server; the image keeps none of them.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path

from devcluster.commands import Run, run
from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.image_builders import (
    STORE_DEADLINE_SECONDS,
    TIMESTAMP,
    BuildahBuilder,
    buildah,
    host_files,
)
from devcluster.packages import Requirement, require
from devcluster.paths import cache_dir
from devcluster.progress import Progress

SUITE = "bookworm"
"""Debian 12: its Python is 3.11, the lowest version that we support."""

PACKAGES = ("ca-certificates", "libcurl4", "python3", "python3-venv")
"""Python to run and to install with, and what the downloaded ``mongod`` needs beside itself."""

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
"""The system's, said in the environment: uv would trust only those that it carries itself."""

BUILDAH = Requirement("buildah", ("buildah",))

TOOLS = (
    BUILDAH,
    Requirement("mmdebstrap", ("mmdebstrap",)),
)
"""What a machine without Docker needs to make images."""

NAME = "localhost/devcluster/base"

_RECIPE = 1
"""Counts changes of how the image is made, so that a cached one of another recipe is not used."""

_BOOTSTRAP_DEADLINE_SECONDS = 900.0
"""It takes 20 s here; a slow mirror takes minutes."""

LEFT_OUT = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
_PASSWORD = re.compile(rb"://[^/\s]*@")
"""In the address of a package index."""

_SOURCES = Path("/etc/apt")
_KEYRING = "debian-archive-keyring"


def ensure_base(progress: Progress, run: Run = run) -> str:
    """Return the name of the base image, making it first where it is not in the store.

    Raises
    ------
    DevclusterError
        If a tool is missing and cannot be installed, or Debian's packages cannot be fetched.
    """
    sources = apt_sources(_SOURCES)
    inputs = repr((_RECIPE, SUITE, PACKAGES, LEFT_OUT, TIMESTAMP, CERTIFICATES, sources))
    tag = f"{NAME}:{SUITE}-{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"
    require(TOOLS, progress)
    waiting = "Another process makes the base image; waiting for it"
    with hold(cache_dir() / "base-image.lock", lambda: progress.note(waiting)):
        if not _exists(tag, run):
            with progress.step("Making the base image from Debian's packages"):
                _make(tag, sources, run)
    return tag


def ensure_engine_base(progress: Progress, run: Run = run) -> str:
    """Return the name of the base image in the Docker engine, bringing it there if it must be.

    A build by an engine mounts nothing of this host. So what lets it find the package index is
    in the image, and in those built on it; but for a file with a password, as an image may be
    pushed.

    Raises
    ------
    DevclusterError
        As `ensure_base`, or if the engine refuses.
    """
    base = ensure_base(progress, run)
    files = {}
    digest = hashlib.sha256(base.encode())
    for path, file in host_files().items():
        content = file.read_bytes()
        if _PASSWORD.search(content):
            progress.note(f"{file} holds a password and is left out of the builds' base image")
            continue
        files[path] = content
        digest.update(path.encode() + content)
    tag = f"{NAME}-here:{digest.hexdigest()[:12]}"

    def docker(*arguments: str | Path) -> str:
        return run(
            ["docker", *arguments],
            what="Bringing the base image to the Docker engine",
            timeout=STORE_DEADLINE_SECONDS,
        )

    with hold(cache_dir() / "engine-base.lock"):
        if docker("images", "--quiet", tag).strip():
            return tag
        with (
            progress.step("Bringing the base image to the Docker engine"),
            tempfile.TemporaryDirectory(prefix="base-", dir=cache_dir()) as name,
        ):
            work = Path(name)
            BuildahBuilder(base, run).save(base, work / "image.tar")
            docker("load", "--quiet", "--input", work / "image.tar")
            (work / "image.tar").unlink()
            lines = [f"FROM {base}"]
            for number, (path, content) in enumerate(files.items()):
                (work / str(number)).write_bytes(content)
                lines.append(f"COPY {number} {path}")
            (work / "Dockerfile").write_text("\n".join(lines) + "\n")
            docker("build", "--quiet", "--tag", tag, work)
    return tag


def apt_sources(directory: Path) -> str:
    """Return this machine's sources of Debian's own packages of the suite, as apt's stanzas.

    Parameters
    ----------
    directory
        Where apt keeps its settings.

    Raises
    ------
    DevclusterError
        If there are none: another system, or another release of Debian.
    """
    stanzas = [
        stanza
        for path in sorted(directory.glob("sources.list.d/*.sources"))
        for stanza in _stanzas(path.read_text())
    ]
    for path in (directory / "sources.list", *sorted(directory.glob("sources.list.d/*.list"))):
        if path.exists():
            stanzas += [made for line in path.read_text().splitlines() if (made := _stanza(line))]
    ours = [stanza for stanza in stanzas if _is_of_suite(stanza)]
    if not ours:
        raise DevclusterError(
            f"This machine has no sources of Debian {SUITE} ({directory}), from which to make the"
            " base image.",
            "Start a Docker engine, which brings its own base; or build on Debian 12.",
        )
    return "\n\n".join(ours) + "\n"


def _stanzas(text: str) -> list[str]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return [stanza.strip() for stanza in re.split(r"\n\s*\n", lines) if stanza.strip()]


def _stanza(line: str) -> str:
    """Return a one-line source as a stanza, or an empty string if it is no source of packages."""
    match = re.fullmatch(r"deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(\S.*)", line.strip())
    if match is None:
        return ""
    options, uri, suite, components = match.groups()
    signed = re.search(r"signed-by=(\S+)", options or "")
    key = signed[1] if signed else f"/usr/share/keyrings/{_KEYRING}.gpg"
    return f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\nSigned-By: {key}"


def _is_of_suite(stanza: str) -> bool:
    fields = dict(re.findall(r"^([A-Za-z-]+):\s*(.*)$", stanza, flags=re.MULTILINE))
    suites = fields.get("Suites", "").split()
    return (
        "deb" in fields.get("Types", "").split()
        and fields.get("Enabled", "yes") != "no"
        and _KEYRING in fields.get("Signed-By", _KEYRING)
        and bool(suites)
        and all(suite == SUITE or suite.startswith(f"{SUITE}-") for suite in suites)
    )


def _exists(tag: str, run: Run) -> bool:
    listing = run(
        [*buildah(run), "images", "--format", "{{.Name}}:{{.Tag}}"],
        what="Listing the images",
        timeout=STORE_DEADLINE_SECONDS,
    )
    return tag in listing.splitlines()


def _make(tag: str, sources: str, run: Run) -> None:
    with tempfile.TemporaryDirectory(prefix="base-", dir=cache_dir()) as name:
        work = Path(name)
        (work / "debian.sources").write_text(sources)
        run(
            [
                *(
                    "mmdebstrap",
                    "--quiet",
                    "--variant=essential",
                    f"--include={','.join(PACKAGES)}",
                ),
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
                '--customize-hook=rm -rf "$1"/etc/apt/sources.list* "$1"/var/lib/apt/lists/*',
                *(SUITE, work / "root.tar", work / "debian.sources"),
            ],
            what="Making the base image",
            timeout=_BOOTSTRAP_DEADLINE_SECONDS,
            hint="Check that `apt-get update` works here, and that the disk has 2 GB free.",
            environment={"SOURCE_DATE_EPOCH": TIMESTAMP},  # bytecode that is checked by hash
        )
        _store(tag, work / "root.tar", run)


def _store(tag: str, archive: Path, run: Run) -> None:
    def store(*arguments: str | Path) -> str:
        return run(
            [*buildah(run), *arguments],
            what="Storing the base image",
            timeout=STORE_DEADLINE_SECONDS,
        )

    container = store("from", "scratch").strip()
    try:
        store("add", "--quiet", container, archive, "/")
        store("config", "--env", f"SSL_CERT_FILE={CERTIFICATES}", container)
        store("commit", "--quiet", "--timestamp", TIMESTAMP, container, tag)
    finally:
        store("rm", container)
