"""A Docker engine with Compose and the images that documents name, with or without a registry.

It is the machine's engine, or devcluster's own where there is none. What such an engine cannot pull
is made here: from the base image of devcluster and the ``mongod`` of the tests. Nothing made so
ever takes a known name in somebody's own engine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from devcluster import build, detect
from devcluster.base_image import ensure_base
from devcluster.engine import own
from devcluster.image_builders import BuildahBuilder, ImageSpec, host_files
from devcluster.mongod_binary import find_mongod
from devcluster.paths import cache_dir
from devcluster.progress import Progress
from support.clusters import cannot_test
from support.programs import installed_modules, program

IMAGES = Path(__file__).parents[1] / "journeys" / "images"
"""The Dockerfiles of what is made here."""

PYTHON, MONGO, NODE = "python:3.11-slim-bookworm", "mongo:8", "node:22-bookworm-slim"


START = """
from devcluster.engine import own
from devcluster.progress import Progress
own.up(Progress(), keep=False)
"""


@dataclass(frozen=True)
class Docker:
    """An engine.

    Parameters
    ----------
    owned
        Whether it is devcluster's own.
    settings
        Variables with which the client uses it.
    client
        The client.
    """

    owned: bool
    settings: Mapping[str, str]
    client: Path

    def run(self, *arguments: str | Path, timeout: float = 600) -> str:
        """Run the client and return what it prints on standard output."""
        done = self._try(*arguments, timeout=timeout)
        assert done.returncode == 0, f"docker {arguments[0]}: {done.stdout}{done.stderr}"
        return done.stdout

    def enter(self, command: Sequence[str]) -> Sequence[str]:
        """Return a command that runs another where ports of containers are on localhost."""
        return own.inside(command) if self.owned else command

    def provide(self, name: str) -> None:
        """See to it that the engine has an image that documents and Dockerfiles name."""
        if self._try("image", "inspect", name).returncode == 0:
            return
        pulled = self._try("pull", "--quiet", name)
        if pulled.returncode == 0:
            return
        if not self.owned:
            cannot_test(f"{name} cannot be pulled: {pulled.stderr.strip()}")
        self._make(name)

    def forget_images(self) -> None:
        """Take the known names off what was made here."""
        for name in (PYTHON, MONGO, NODE):
            if self.owned and self._made(name):
                self._try("rmi", name)

    def _make(self, name: str) -> None:
        made = self._made(name)
        if self._try("image", "inspect", made).returncode != 0:
            builder = BuildahBuilder(ensure_base(Progress()))
            with tempfile.TemporaryDirectory(dir=cache_dir()) as directory:
                context = Path(directory)
                CONTEXTS[name](context)
                dockerfile = IMAGES / name.partition(":")[0] / "Dockerfile"
                builder.build(ImageSpec(tag=made, context=context, dockerfile=dockerfile))
                builder.save(made, context / "image.tar")
                self.run("load", "--quiet", "--input", context / "image.tar")
        self.run("tag", made, name)

    @staticmethod
    def _made(name: str) -> str:
        """Return the name that says of what an image is made."""
        digest = hashlib.sha256()
        for path in sorted((IMAGES / name.partition(":")[0]).iterdir()):
            digest.update(path.read_bytes())
        return f"localhost/devcluster/{name.replace(':', '-')}:{digest.hexdigest()[:12]}"

    def _try(
        self, *arguments: str | Path, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.client, *arguments],
            env={**os.environ, **self.settings},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """Give an engine with Compose."""
    with own.using():  # from before it starts: whoever is done elsewhere would remove it
        docker = _with_compose(_engine(), tmp_path_factory)
        yield docker
    with own.alone() as alone:  # another run may use the names
        if alone and docker.owned and own.runs():
            docker.forget_images()
    if docker.owned:
        own.down_if_unused()


def _engine() -> Docker:
    if detect.docker_answers():
        client = Path(shutil.which("docker") or "docker")
        return Docker(owned=own.in_use(), settings={}, client=client)
    reason = own.why_not()
    if reason:
        cannot_test(f"no Docker engine: {reason}")
    # Another process, since this one would be told of what it leaves running.
    subprocess.run([sys.executable, "-c", START], check=True)
    settings = own.environment()
    client = Path(settings.pop("PATH").partition(os.pathsep)[0]) / "docker"
    return Docker(owned=True, settings=settings, client=client)


def _with_compose(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    if docker._try("compose", "version").returncode == 0:
        return docker
    plugins = tmp_path_factory.mktemp("docker") / "cli-plugins"
    plugins.mkdir()
    (plugins / "docker-compose").symlink_to(
        build.ensure(build.COMPOSE, Progress()) / "docker-compose"
    )
    return replace(docker, settings={**docker.settings, "DOCKER_CONFIG": str(plugins.parent)})


def _python_context(directory: Path) -> None:
    """Bring what lets a build trust, and find, the package index that this host does."""
    (directory / "etc").mkdir()
    for target, source in host_files().items():
        copy = directory / target.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)


def _mongo_context(directory: Path) -> None:
    """Bring the server, MongoDB's shell, and Node with what Debian's base lacks for it."""
    (directory / "bin").mkdir()
    shutil.copy(find_mongod(print), directory / "bin" / "mongod")
    shutil.copy(program("node"), directory / "bin" / "node")
    _standard_library(directory)
    modules = installed_modules(IMAGES / "mongo") / "node_modules"
    shutil.copytree(modules, directory / "node_modules", symlinks=True)


def node_context(directory: Path) -> None:
    """Bring what Node lacks in Debian's base, and what a build needs of this host."""
    _python_context(directory)
    _standard_library(directory)


def _standard_library(directory: Path) -> None:
    """Bring that of C++."""
    needed = subprocess.run(
        ["ldd", program("node")], capture_output=True, text=True, check=True
    ).stdout
    [library] = [line.split()[2] for line in needed.splitlines() if "libstdc++" in line]
    (directory / "lib").mkdir()
    shutil.copy(library, directory / "lib" / "libstdc++.so.6")


CONTEXTS = {PYTHON: _python_context, MONGO: _mongo_context, NODE: node_context}
"""What fills the directories that the images are made from."""
