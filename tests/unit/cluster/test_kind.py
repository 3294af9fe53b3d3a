"""Which commands are run; what they do with a real engine, `make test-kind` shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.recording import Answer, RecordingRun

from devcluster import build, kind, kind_node_image
from devcluster.engine import own
from devcluster.errors import DevclusterError
from devcluster.filelock import is_held
from devcluster.kind import NODE_IMAGE, KindProvider
from devcluster.progress import Progress


@pytest.fixture(autouse=True)
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put programs on PATH that are never run, and give the path of `kind`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(kind, "docker_answers", lambda: True)
    for name in ("kind", "kubectl", "helm"):
        (tmp_path / name).touch(mode=0o755)
    return str(tmp_path / "kind")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Give the directory of the cluster named `one`."""
    return tmp_path / "state" / "devcluster" / ".kind" / "one"


def test_up_creates_the_cluster_with_its_own_kubeconfig(program: str, home: Path) -> None:
    def create() -> str:
        (home / "kubeconfig").write_text("made by kind")
        return ""

    run = RecordingRun({"get clusters": "another\n", "create cluster": create})

    KindProvider("one", Progress(), run).up()

    assert run.commands == [
        f"{program} get clusters",
        f"docker image inspect --format {{{{.Id}}}} {NODE_IMAGE}",
        (
            f"{program} create cluster --name one --image {NODE_IMAGE}"
            f" --kubeconfig {home}/kubeconfig --config {home}/kind.yaml --wait 180s"
        ),
    ]
    assert (home / "kubeconfig").stat().st_mode & 0o077 == 0


def test_the_kubelet_is_told_to_look_at_secrets_often(program: str, home: Path) -> None:
    run = RecordingRun({f"{program} create": DevclusterError("stop here")})

    with pytest.raises(DevclusterError, match="stop here"):
        KindProvider("one", Progress(), run).up()

    configuration = yaml.safe_load((home / "kind.yaml").read_text())
    patch = yaml.safe_load(configuration["kubeadmConfigPatches"][0])
    assert patch == {"kind": "KubeletConfiguration", "syncFrequency": "2s"}
    assert "networking" not in configuration


def test_a_second_up_only_writes_the_kubeconfig_again(program: str, home: Path) -> None:
    run = RecordingRun({f"{program} get clusters": "one\n"})
    home.mkdir(parents=True)
    (home / "kubeconfig").touch()

    KindProvider("one", Progress(), run).up()

    assert run.commands == [
        f"{program} get clusters",
        f"{program} export kubeconfig --name one --kubeconfig {home}/kubeconfig",
    ]


def test_down_deletes_the_cluster_and_its_directory(program: str, home: Path) -> None:
    run = RecordingRun({f"{program} get clusters": "one\n"})
    home.mkdir(parents=True)

    assert KindProvider("one", Progress(), run).down() is True
    assert run.commands[-1] == (
        f"{program} delete cluster --name one --kubeconfig {home}/kubeconfig"
    )
    assert not home.exists()


def test_down_without_a_cluster_deletes_nothing(program: str) -> None:
    run = RecordingRun()

    assert KindProvider("one", Progress(), run).down() is False
    assert run.commands == [f"{program} get clusters"]


def test_an_image_is_loaded_from_its_archive(program: str, tmp_path: Path) -> None:
    run = RecordingRun()

    KindProvider("one", Progress(), run).load_image(tmp_path / "image.tar")

    assert run.commands == [f"{program} load image-archive {tmp_path}/image.tar --name one"]


@pytest.mark.parametrize(("state", "healthy"), [("running\n", True), ("exited\n", False)])
def test_the_status_is_that_of_the_nodes_container(
    program: str, state: str, *, healthy: bool
) -> None:
    run = RecordingRun({f"{program} get clusters": "one\n", "docker inspect": state})

    status = KindProvider("one", Progress(), run).status()

    assert status.exists
    assert status.healthy is healthy
    assert run.commands[-1] == ("docker inspect --format {{.State.Status}} one-control-plane")


def test_without_a_cluster_there_is_no_kubeconfig() -> None:
    with pytest.raises(DevclusterError, match=r"(?s)No cluster one runs.*devcluster up"):
        KindProvider("one", Progress(), RecordingRun()).kubeconfig()


def test_kind_cannot_be_used_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "docker_answers", lambda: False)
    run = RecordingRun()

    assert kind.why_not(Progress(), run) == "no Docker engine answers `docker info`"
    assert run.commands == []


def test_the_node_image_is_downloaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "docker_answers", lambda: True)
    there = RecordingRun()
    missing = RecordingRun({"docker image inspect": DevclusterError("No such image")})

    assert kind.why_not(Progress(), there) == ""
    assert kind.why_not(Progress(), missing) == ""
    assert there.commands == [f"docker image inspect --format {{{{.Id}}}} {NODE_IMAGE}"]
    assert missing.commands[-1] == f"docker pull --quiet {NODE_IMAGE}"


def test_an_image_that_cannot_be_had_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "docker_answers", lambda: True)
    run = RecordingRun(
        {
            "docker image inspect": DevclusterError("No such image"),
            "docker pull": DevclusterError("Downloading it failed:\nno such host"),
        }
    )

    assert kind.why_not(Progress(), run) == (
        f"kind's node image {NODE_IMAGE} cannot be had: no such host"
    )


def test_an_engine_of_our_own_publishes_the_api_server_at_its_address(
    program: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in own.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(own, "runs", lambda: True)
    monkeypatch.setattr(own, "address", lambda: "192.0.2.7")
    run = RecordingRun({f"{program} create": DevclusterError("stop here")})

    with pytest.raises(DevclusterError, match="stop here"):
        KindProvider("one", Progress(), run).up()

    configuration = yaml.safe_load((home / "kind.yaml").read_text())
    assert configuration["networking"] == {"apiServerAddress": "192.0.2.7", "apiServerPort": -1}


def test_kubectl_and_helm_are_compiled_where_they_are_missing(
    program: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    (tmp_path / "helm").unlink()
    home.mkdir(parents=True)
    (home / "kubeconfig").touch()
    monkeypatch.setattr(
        build, "ensure", lambda of, _progress: made if of is build.HELM else pytest.fail(of.name)
    )
    provider = KindProvider("one", Progress(), RecordingRun({f"{program} get clusters": "one\n"}))
    assert provider.tools() is None

    provider.up()

    assert provider.tools() == home / "tools"
    assert [path.name for path in (home / "tools").iterdir()] == ["helm"]
    assert (home / "tools" / "helm").readlink() == made / "helm"


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        pytest.param({"image inspect": ""}, NODE_IMAGE, id="kind's own"),
        pytest.param({"docker images": "abc\n"}, "ours", id="made here before"),
        pytest.param({"docker pull": ""}, NODE_IMAGE, id="from the registry"),
        pytest.param({}, "ours", id="made here"),
    ],
)
def test_the_node_image_is_kinds_own_where_it_can_be_had(
    there: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind_node_image, "_sources", lambda: "sources")
    monkeypatch.setattr(kind_node_image, "ensure", lambda *_arguments: "ours")
    answers: dict[str, Answer] = {
        "docker image inspect": DevclusterError("No such image"),
        "docker images": "",
        "docker pull": DevclusterError("no such host"),
    }
    answers |= {name: text for name in answers for end, text in there.items() if end in name}

    assert kind.node_image(Progress(), RecordingRun(answers)) == expected


def test_down_without_an_engine_has_nothing_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "docker_answers", lambda: False)
    home.mkdir(parents=True)
    run = RecordingRun()

    assert KindProvider("one", Progress(), run).down() is False
    assert not home.exists()
    assert run.commands == []


def test_without_an_engine_and_without_root_kind_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kind, "docker_answers", lambda: False)
    monkeypatch.setattr(own, "why_not", lambda: "this is user 1000")

    with pytest.raises(DevclusterError, match=r"(?s)no Docker engine.*user 1000.*unset DEVCLUSTER"):
        kind.require_engine(Progress())


def test_kind_is_compiled_where_it_is_not_installed(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(program).unlink()
    monkeypatch.setattr(kind, "find_go", lambda _progress: Path("/go"))
    run = RecordingRun()

    made = kind.ensure_kind(Progress(), run)

    assert run.commands == [f"/go install sigs.k8s.io/kind@{kind.KIND_VERSION}"]
    assert run.environments[0]["GOBIN"] == str(made.parent)
    assert made == tmp_path / "cache" / "devcluster" / "bin" / "kind-v0.30.0" / "kind"


def test_an_engine_is_held_from_before_it_starts_until_all_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, bool]] = []

    def note(step: str) -> None:
        seen.append((step, is_held(own._use_lock())))

    monkeypatch.setattr(kind, "require_engine", lambda _: note("engine"))
    monkeypatch.setattr(kind, "ensure_kind", lambda _: note("kind"))
    monkeypatch.setattr(kind, "node_image", lambda _: note("image"))
    monkeypatch.setattr(kind, "missing_tools", lambda _: iter(()))
    monkeypatch.setattr(own, "down_if_unused", lambda: note("end"))

    kind.prepare(Progress())

    assert seen == [("engine", True), ("kind", True), ("image", True), ("end", False)]
