"""Start, find, enter and remove the engine.

What is expensive to make again, the images, is in the cache. Containers, networks and volumes go
when the engine does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from devcluster import packages
from devcluster.commands import run
from devcluster.engine import runtime
from devcluster.engine.inside import OUTSIDE
from devcluster.errors import DevclusterError
from devcluster.filelock import hold, hold_if_free, share
from devcluster.node import cgroups, cleanup, machine, record
from devcluster.node.addresses import NodeNetwork
from devcluster.node.layout import Layout
from devcluster.node.processes import ProcessId, wait_gone
from devcluster.packages import Requirement
from devcluster.paths import cache_dir, state_root
from devcluster.progress import Progress

REQUIREMENTS = (
    Requirement("docker.io", ("dockerd", "docker")),
    Requirement("containerd", ("containerd", "containerd-shim-runc-v2")),
    Requirement("runc", ("runc",)),
    Requirement("iptables", ("iptables",)),
    Requirement("iproute2", ("ip",)),
    Requirement("util-linux", ("unshare", "nsenter", "mount")),
    Requirement("slirp4netns", ("slirp4netns",)),
    Requirement("tini", ("docker-init",)),
)
"""Debian's packages; the last has what the link ``docker-init`` leads to."""

_READY_SECONDS = 60.0
_END_SECONDS = 15.0
_POLL = 0.05
_PROGRAMS = {"unshare", "docker-init", "dockerd", "containerd", "slirp4netns"}
_MODULE = "devcluster.engine.inside"


def why_not() -> str:
    """Return why this machine and user can have no engine of ours, or an empty string."""
    if sys.platform != "linux" or shutil.which("apt-get") is None:
        return "an engine of devcluster's own needs Debian's packages"
    if os.geteuid() != 0:
        return f"an engine of devcluster's own needs root, and this is user {os.geteuid()}"
    return ""


def socket_path() -> Path:
    """Return where the engine listens while it runs."""
    return _layout().root / "docker.sock"


def environment() -> dict[str, str]:
    """Return what makes a ``docker`` client use the engine: its address, and its own client."""
    path = os.environ.get("PATH", "")
    tools = str(_layout().tools)
    return {
        "DOCKER_HOST": f"unix://{socket_path()}",
        "PATH": path if path.startswith(tools) else f"{tools}{os.pathsep}{path}",
    }


def adopt() -> None:
    """Make this process and what it starts use the engine."""
    os.environ.update(environment())


def in_use() -> bool:
    """Say whether this process uses the engine, rather than the machine's."""
    return os.environ.get("DOCKER_HOST") == environment()["DOCKER_HOST"]


def runs() -> bool:
    """Say whether the engine takes requests."""
    try:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
            client.settimeout(5)
            client.connect(str(socket_path()))
            client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in client.recv(64)
    except OSError:
        return False


def address() -> str:
    """Return the engine's address: ports that containers publish are there.

    Raises
    ------
    DevclusterError
        If the engine does not run.
    """
    return NodeNetwork(_index()).node_ip


def up(progress: Progress, *, keep: bool = True) -> None:
    """Start the engine unless it runs.

    Parameters
    ----------
    progress
        Shows what is done.
    keep
        Whether it stays until `down`; otherwise `down_if_unused` removes it, unless somebody
        asked for it to stay.

    Raises
    ------
    DevclusterError
        If it cannot be installed or started.
    """
    reason = why_not()
    if reason:
        raise DevclusterError(f"No Docker engine can be started: {reason}", "Start one yourself.")
    layout = _layout()
    with hold(_lock(), lambda: progress.note("Another devcluster is at work on the engine")):
        if not runs():
            packages.require(REQUIREMENTS, progress)
            _remove()
            for made in (layout.root, layout.logs, layout.tools):
                made.mkdir(mode=0o700, parents=True)
            with progress.step("Starting a Docker engine"):
                _start(layout)
        if keep:
            _kept().touch()


def down() -> bool:
    """Remove the engine with all its containers; return whether it ran. Its images stay."""
    with hold(_lock()):
        return _remove()


def down_if_unused() -> None:
    """Remove an engine that was started for a cluster and has no container any more."""
    with alone() as unused, hold(_lock()):
        if unused and runs() and not _kept().exists() and not _containers():
            _remove()


@contextlib.contextmanager
def using() -> Iterator[None]:
    """Keep the engine from being removed as unused for the length of a block."""
    with share(_use_lock()):
        yield


@contextlib.contextmanager
def alone() -> Iterator[bool]:
    """Say, for the length of a block, whether nobody else uses the engine."""
    with hold_if_free(_use_lock()) as free:
        yield free


def inside(command: Sequence[str]) -> list[str]:
    """Return a command that runs another in the engine's network, where its ports are local.

    Raises
    ------
    DevclusterError
        If the engine does not run.
    """
    first = next((process for process in _processes() if _is_first(process)), None)
    if first is None or not runs():
        raise DevclusterError("The Docker engine does not run", "Start it: devcluster engine up")
    # DNS is the namespace's too, hence the mount namespace; the file systems are the same.
    return ["nsenter", f"--target={first.pid}", "--net", "--mount", f"--wd={Path.cwd()}", *command]


def _start(layout: Layout) -> None:
    # The client that came with the engine: another on PATH may be years newer.
    packaged = Path("/usr/bin/docker")
    client = packaged if packaged.exists() else Path(packages.find("docker") or packaged)
    (layout.tools / "docker").symlink_to(client)
    cgroup = cgroups.name_of(layout.root)
    cgroups.create(cgroup)
    dockerd = [
        *("docker-init", "--", "dockerd", "--host", f"unix://{socket_path()}"),
        *("--data-root", cache_dir() / "engine", "--exec-root", layout.root / "exec"),
        *("--pidfile", layout.root / "dockerd.pid", "--cgroup-parent", f"/{cgroup}"),
        *("--exec-opt", "native.cgroupdriver=cgroupfs", "--group", "root"),
    ]
    if runtime.missing():
        fit = layout.root / "fit"
        fit.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{runtime.__file__}" "$@"\n')
        fit.chmod(0o700)
        dockerd += ["--add-runtime", f"fit={fit}", "--default-runtime", "fit"]
    with machine.choose_network() as network:
        bridge = f"{network.pods[1]}/{network.pods.prefixlen}"
        pool = f"base={network.services},size=27"
        command = [
            *(sys.executable, "-m", _MODULE, str(network.link.removeprefix("devcluster"))),
            *(str(part) for part in (*dockerd, "--bip", bridge, "--default-address-pool", pool)),
        ]
        first = _start_first(layout, command, network)
    layout.write(layout.record, f"{first} {network.link.removeprefix('devcluster')}")
    _await_ready(layout)
    _prune()


def _start_first(layout: Layout, command: list[str], network: NodeNetwork) -> int:
    """Start the namespaces' first process with its two networks; return its process id."""
    kept = ("HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
    chosen = {name: os.environ[name] for name in kept if name in os.environ}
    # slirp4netns ends when the other end of this pipe is closed: with the last process inside.
    ended, held = os.pipe()
    with layout.log("supervisor").open("ab") as log:
        try:
            process = subprocess.Popen(
                machine.in_namespaces(command),
                env=chosen | {"PATH": packages.search_path(), "LC_ALL": "C.UTF-8"},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(held,),
            )
            first = machine.connect(process, network, layout)
            subprocess.Popen(
                [
                    *("slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback"),
                    *(f"--exit-fd={ended}", f"--api-socket={layout.root}/slirp.sock"),
                    *(str(first), OUTSIDE),
                ],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(ended,),
            )
        finally:
            os.close(ended)
            os.close(held)
    return first


def _prune() -> None:
    """Remove what an engine that was killed has left among the images."""
    containers = _containers()
    if containers:
        _docker("rm", "--force", "--volumes", *containers)
    _docker("volume", "prune", "--force")
    _docker("network", "prune", "--force")


def _containers() -> list[str]:
    return _docker("ps", "--all", "--quiet").split()


def _docker(*arguments: str) -> str:
    return run(
        [_layout().tools / "docker", *arguments],
        what=f"docker {arguments[0]}",
        timeout=120,
        environment=environment(),
    )


def _remove() -> bool:
    layout = _layout()
    there = runs()
    if there:
        with contextlib.suppress(DevclusterError):  # else the next start does it
            _prune()
    targets = _processes()
    for process in targets:
        process.kill()
    left = wait_gone(targets, _END_SECONDS)
    if left:
        pids = ", ".join(str(process.pid) for process in left)
        raise DevclusterError(f"These processes of the engine do not end: {pids}")
    with contextlib.suppress(DevclusterError):
        cleanup.remove_link(NodeNetwork(_index()))
    cgroups.remove(cgroups.name_of(layout.root))
    shutil.rmtree(layout.root, ignore_errors=True)
    return there


def _processes() -> list[ProcessId]:
    """Return the engine's own processes, found by what they were given; the kernel ends the rest.

    The record may be missing: an ``up`` that was killed has not come to write it.
    """
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            identity = ProcessId.of(int(entry.name))
            if identity is not None and _is_ours(_arguments(identity)):
                found.append(identity)
    return found


def _is_ours(arguments: list[str]) -> bool:
    ours = any(f"{_layout().root}/" in argument for argument in arguments)
    return ours and (Path(arguments[0]).name in _PROGRAMS or _MODULE in arguments)


def _is_first(process: ProcessId) -> bool:
    return Path(_arguments(process)[0]).name == "docker-init"


def _arguments(process: ProcessId) -> list[str]:
    try:
        text = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return [""]
    return text.split("\0")


def _index() -> int:
    try:
        return int(_layout().record.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        raise DevclusterError(
            "The Docker engine does not run", "Start it: devcluster engine up"
        ) from None


def _await_ready(layout: Layout) -> None:
    end = time.monotonic() + _READY_SECONDS
    while not runs():
        if time.monotonic() > end or not _processes():
            raise DevclusterError(
                f"The Docker engine did not start: {record.last_line(layout, 'supervisor')}",
                f"See {layout.log('supervisor')}.",
            )
        time.sleep(_POLL)


def _layout() -> Layout:
    return Layout(state_root() / ".engine")


def _lock() -> Path:
    return state_root() / ".engine.lock"


def _use_lock() -> Path:
    return state_root() / ".engine-use.lock"


def _kept() -> Path:
    return _layout().root / "kept"
