from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.recording import RecordingRun

from devcluster import base_image, image_builders, images
from devcluster.commands import run as really_run
from devcluster.engine import own
from devcluster.errors import DevclusterError
from devcluster.image_builders import BuildahBuilder, DockerBuilder, ImageSpec
from devcluster.progress import Progress

SOURCES = """\
# a comment that names nobody
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://elsewhere.example/tool
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/tool.gpg

Types: deb-src
URIs: http://mirror.example/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://mirror.example/debian
Suites: trixie
Components: main
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def spec(tmp_path: Path) -> ImageSpec:
    """Give a request for an image with one argument."""
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    return ImageSpec(tag="localhost/app:dev", context=tmp_path, arguments={"COLOUR": "blue"})


def test_an_engine_builds_with_the_dockerfiles_own_base(spec: ImageSpec, tmp_path: Path) -> None:
    run = RecordingRun()

    DockerBuilder(run).build(spec)

    assert run.commands == [
        (
            f"docker build --quiet --tag localhost/app:dev --file {tmp_path}/Dockerfile"
            f" --build-arg SOURCE_DATE_EPOCH=315532800 --build-arg COLOUR=blue {tmp_path}"
        )
    ]


def test_an_engine_without_a_registry_builds_on_our_base(spec: ImageSpec) -> None:
    run = RecordingRun()

    DockerBuilder(run, "localhost/base:1").build(spec)

    assert "--build-arg BASE=localhost/base:1" in run.commands[0]


@pytest.mark.parametrize(("reached", "base"), [(True, ""), (False, "localhost/base:1")])
def test_an_engine_of_our_own_gets_a_base_where_it_reaches_no_registry(
    base: str, monkeypatch: pytest.MonkeyPatch, *, reached: bool
) -> None:
    monkeypatch.setattr(images, "ensure_engine_base", lambda _progress, _run: "localhost/base:1")
    monkeypatch.setattr(images, "docker_answers", lambda: True)
    monkeypatch.setattr(own, "in_use", lambda: True)
    run = RecordingRun({} if reached else {"docker manifest": DevclusterError("no such host")})

    assert images.choose_builder(Progress(), run) == DockerBuilder(run, base)
    assert run.commands == [f"docker manifest inspect {images.PYTHON_IMAGE}"]


def test_an_engine_saves_what_containerd_reads(tmp_path: Path) -> None:
    run = RecordingRun()

    DockerBuilder(run).save("localhost/app:dev", tmp_path / "image.tar")

    assert run.commands == [f"docker save --output {tmp_path}/image.tar localhost/app:dev"]


def test_buildah_builds_from_our_base_without_a_registry(
    spec: ImageSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    run = RecordingRun({"buildah": "a-container\n"})

    BuildahBuilder("localhost/base:1", run).build(spec)

    command = run.commands[-2]
    assert (
        "--storage-driver overlay build --isolation chroot --layers --force-rm --pull-never"
        in command
    )
    assert "--build-arg BASE=localhost/base:1" in command
    assert "--build-arg COLOUR=blue" in command
    assert "--timestamp 315532800 --tag localhost/app:dev" in command
    assert command.endswith(str(tmp_path))


def test_a_base_of_the_callers_choice_wins(spec: ImageSpec, tmp_path: Path) -> None:
    run = RecordingRun({"buildah": "a-container\n"})
    chosen = ImageSpec(tag=spec.tag, context=tmp_path, arguments={"BASE": "localhost/mine:1"})

    BuildahBuilder("localhost/base:1", run).build(chosen)

    builds = [command for command in run.commands if " build " in command]
    assert "--build-arg BASE=localhost/mine:1" in builds[0]
    assert "localhost/base:1" not in builds[0]


def test_the_store_copies_files_where_overlay_does_not_work(
    spec: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    run = RecordingRun({" mount ": DevclusterError("overlay is not supported over overlayfs")})
    builder = BuildahBuilder("localhost/base:1", run)

    builder.build(spec)
    builder.build(spec)

    assert sum("--storage-driver vfs build" in command for command in run.commands) == 2
    assert sum(" from scratch" in command for command in run.commands) == 1, "tried once"


def test_who_is_not_root_gets_a_store_that_copies(
    spec: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    run = RecordingRun()

    BuildahBuilder("localhost/base:1", run).build(spec)

    assert "--storage-driver vfs build" in run.commands[0]


def test_only_the_newest_builds_without_a_name_are_kept(
    spec: ImageSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    names = [f"{number:064x}" for number in range(image_builders.OLD_BUILDS + 2)]
    for age, name in enumerate(names):
        image = tmp_path / "cache" / "devcluster" / "images" / "vfs" / "vfs-images" / name
        image.mkdir(parents=True)
        os.utime(image, (1_000_000_000 - age, 1_000_000_000 - age))
    run = RecordingRun({"dangling=true": "".join(f"sha256:{name}\n" for name in names)})

    BuildahBuilder("localhost/base:1", run).build(spec)

    assert [command.split()[-1] for command in run.commands[-2:]] == names[-2:]
    assert all(" rmi " in command for command in run.commands[-2:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tag": "no-tag"}, "no image name with a tag"),
        ({"tag": "Upper:case"}, "no image name with a tag"),
        ({"tag": "--privileged:1"}, "no image name with a tag"),
        ({"context": Path("/no/such/place")}, "is no directory"),
        ({"dockerfile": Path("/no/such/Dockerfile")}, "no Dockerfile at /no/such/Dockerfile"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    (tmp_path / "Dockerfile").touch()
    values: dict[str, object] = {"tag": "localhost/app:dev", "context": tmp_path, **change}
    run = RecordingRun()

    with pytest.raises(DevclusterError, match=message):
        DockerBuilder(run).build(ImageSpec(**values))  # type: ignore[arg-type]
    assert run.commands == []


def test_an_image_goes_to_the_cluster_as_an_archive_that_does_not_stay() -> None:
    run = RecordingRun()
    loaded: list[Path] = []

    images.load("localhost/app:dev", loaded.append, Progress(), DockerBuilder(run))

    assert run.commands == [f"docker save --output {loaded[0]} localhost/app:dev"]
    assert not loaded[0].parent.exists()


def test_an_image_is_pushed_without_tls_to_this_machine_alone() -> None:
    run = RecordingRun()
    buildah = BuildahBuilder("base:1", run)
    for tag in ("127.0.0.1:5000/app:1", "localhost:5000/app:1", "registry.example.com/app:1"):
        buildah.push(tag)
    pushes = [line.partition(" push ")[2] for line in run.commands if " push " in line]
    assert pushes == [
        "--quiet --tls-verify=false 127.0.0.1:5000/app:1 docker://127.0.0.1:5000/app:1",
        "--quiet --tls-verify=false localhost:5000/app:1 docker://localhost:5000/app:1",
        "--quiet registry.example.com/app:1 docker://registry.example.com/app:1",
    ]


def test_the_engine_is_preferred_where_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ensure_base", lambda _progress, _run: "localhost/base:1")
    monkeypatch.setattr(images, "docker_answers", lambda: True)
    assert isinstance(images.choose_builder(Progress()), DockerBuilder)

    monkeypatch.setattr(images, "docker_answers", lambda: False)
    assert images.choose_builder(Progress()) == BuildahBuilder("localhost/base:1", really_run)


def test_the_base_comes_from_debians_own_packages_of_the_suite(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(SOURCES)
    (tmp_path / "sources.list").write_text(
        "# deb http://old.example/debian bookworm main\n"
        "deb [arch=amd64] http://mirror.example/security bookworm-security main contrib\n"
        "deb [signed-by=/usr/share/keyrings/x.gpg] http://x.example/apt bookworm main\n"
    )

    assert base_image.apt_sources(tmp_path) == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n"
        "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        "Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\n"
        "Components: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_another_system_is_told_that_docker_would_do(tmp_path: Path) -> None:
    with pytest.raises(DevclusterError, match=r"(?s)no sources of Debian bookworm.*Docker engine"):
        base_image.apt_sources(tmp_path)


def test_a_base_that_is_there_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_image, "apt_sources", lambda _directory: "sources")
    monkeypatch.setattr(base_image, "require", lambda _tools, _progress: None)
    monkeypatch.setattr(image_builders, "_overlay_works", lambda _store, _run: True)
    first = RecordingRun()
    tag = base_image.ensure_base(Progress(), first)
    second = RecordingRun({"buildah": f"localhost/other:1\n{tag}\n"})

    assert base_image.ensure_base(Progress(), second) == tag
    assert any(command.startswith("mmdebstrap") for command in first.commands)
    assert not any(command.startswith("mmdebstrap") for command in second.commands)


def test_a_password_for_the_package_index_gets_into_no_image_of_an_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, trusted = tmp_path / "pip.conf", tmp_path / "certificates"
    secret.write_text("[global]\nindex-url = https://me:hunter2@index.example/simple\n")
    trusted.write_text("certificates")
    monkeypatch.setattr(base_image, "ensure_base", lambda _progress, _run: "localhost/base:1")
    monkeypatch.setattr(image_builders, "_overlay_works", lambda _store, _run: True)
    monkeypatch.setattr(base_image, "host_files", lambda: {"/p": secret, "/c": trusted})
    contexts: dict[str, str] = {}

    class Run(RecordingRun):
        """Looks into the context of the build, which is gone afterwards."""

        def __call__(self, command: Sequence[str | Path], **options: Any) -> str:
            if "load" in command:
                Path(command[-1]).touch()
            if command[1] == "build":
                files = Path(command[-1]).iterdir()
                contexts.update({file.name: file.read_text() for file in files})
            return super().__call__(command, **options)

    base_image.ensure_engine_base(Progress(), Run())

    assert contexts == {
        "0": "certificates",
        "Dockerfile": "FROM localhost/base:1\nCOPY 0 /c\n",
    }
    assert f"{secret} holds a password" in capsys.readouterr().err


def test_other_sources_make_another_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_image, "require", lambda _tools, _progress: None)
    tags = set()
    for sources in ("one", "two"):
        monkeypatch.setattr(base_image, "apt_sources", lambda _directory, text=sources: text)
        tags.add(base_image.ensure_base(Progress(), RecordingRun()))

    assert len(tags) == 2
