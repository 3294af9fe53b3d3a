"""Images are really built here, with what the machine has."""

from __future__ import annotations

import json
import tarfile
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from devcluster import images
from devcluster.errors import DevclusterError
from devcluster.image_builders import Builder, ImageSpec
from devcluster.image_cli import image as command
from devcluster.progress import Progress

pytestmark = pytest.mark.long

DOCKERFILE = """
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}
ARG SOURCE_DATE_EPOCH
COPY slow.py /app/slow.py
RUN python3 -m compileall -q /app && sleep 1
COPY quick.py /app/quick.py
USER 10001:10001
ENTRYPOINT ["python3", "/app/quick.py"]
"""

TAG = "localhost/devcluster-test:images"


@pytest.fixture(scope="module")
def builder() -> Builder:
    """Give the machine's builder, with its base image made."""
    return images.choose_builder(Progress())


@pytest.fixture
def spec(tmp_path: Path) -> ImageSpec:
    """Give a request for an image with a slow step and a file copied after it."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    # The time makes the slow step new for each run of this test, so that it cannot be cached.
    (context / "slow.py").write_text(f"BUILT = {time.time_ns()}\n")
    (context / "quick.py").write_text("print('one')\n")
    return ImageSpec(tag=TAG, context=context)


def test_a_rebuild_after_a_change_repeats_only_what_depends_on_it(
    builder: Builder, spec: ImageSpec, tmp_path: Path
) -> None:
    images.build(spec, Progress(), builder)
    first = _saved(builder, tmp_path / "first.tar")
    (spec.context / "quick.py").write_text("print('two')\n")
    images.build(spec, Progress(), builder)
    second = _saved(builder, tmp_path / "second.tar")

    assert len(first.layers) == len(second.layers)
    changed = [one != two for one, two in zip(first.layers, second.layers, strict=True)]
    assert sum(changed) == 1, "only the layer with the changed file is new"
    assert first.user == "10001:10001"
    assert first.bytecode_flags == 3, "bytecode is checked by hash, whatever the files' times"


def test_a_failing_step_is_shown_with_its_output(builder: Builder, spec: ImageSpec) -> None:
    (spec.context / "Dockerfile").write_text(
        "ARG BASE=python:3.11-slim-bookworm\nFROM ${BASE}\nRUN echo no luck >&2; exit 7\n"
    )

    with pytest.raises(DevclusterError, match=rf"(?s)Building {TAG} failed.*no luck"):
        images.build(spec, Progress(), builder)


def test_an_image_that_was_never_built_cannot_be_loaded(builder: Builder) -> None:
    with pytest.raises(DevclusterError, match="Saving localhost/never:built failed") as caught:
        images.load("localhost/never:built", lambda _: None, Progress(), builder)
    assert "devcluster image build" in caught.value.hint


def test_the_command_prints_the_name_alone(builder: Builder, spec: ImageSpec) -> None:
    del builder  # its base image is made, so that this test takes no minutes
    (spec.context / "Dockerfile").write_text(
        "ARG BASE=python:3.11-slim-bookworm\nFROM ${BASE}\nARG COLOUR\nRUN test $COLOUR = blue\n"
    )

    arguments = ["build", "--tag", TAG, "--build-arg", "COLOUR=blue", str(spec.context)]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)

    assert result.stdout == f"{TAG}\n"


class _Saved:
    """What an archive in Docker's format holds."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as saved:
            manifest = json.load(_member(saved, "manifest.json"))[0]
            config = json.load(_member(saved, manifest["Config"]))
            self.layers: list[str] = config["rootfs"]["diff_ids"]
            self.user: str = config["config"]["User"]
            self.bytecode_flags = 0
            for layer in manifest["Layers"]:
                with tarfile.open(fileobj=_member(saved, layer)) as files:
                    for name in files.getnames():
                        if name.endswith("app/__pycache__/slow.cpython-311.pyc"):
                            self.bytecode_flags = _member(files, name).read(8)[4]


def _saved(builder: Builder, archive: Path) -> _Saved:
    builder.save(TAG, archive)
    return _Saved(archive)


def _member(archive: tarfile.TarFile, name: str) -> tarfile.ExFileObject:
    found = archive.extractfile(name)
    assert isinstance(found, tarfile.ExFileObject)
    return found
