"""The first process of a cluster: it starts the others in order and records how they fare.

It is started as ``python -m devcluster.node.supervisor DIRECTORY``. A component that dies
stays dead, and the record says so: a test must not pass because something was started again
behind its back. SIGHUP starts what died; ``devcluster up`` sends it.

In a node's namespaces this is process 1, so the kernel ends every other process of the node
with it. Without namespaces each component asks for that itself, see :func:`_die_with_parent`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import ssl
import sys
import urllib.error
import urllib.request
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path
from socket import AF_UNIX, create_connection, socket

from devcluster.node import namespace
from devcluster.node.component import Component, Health, State
from devcluster.node.layout import Layout

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

_STARTING_POLL = 0.05
"""Seconds between two looks while something starts."""

_IDLE_POLL = 5.0
"""Seconds between two looks otherwise; a death wakes it at once."""

_PROBE_TIMEOUT = 1.0


class Supervisor:
    """Starts components and keeps the record of them.

    Parameters
    ----------
    layout
        The cluster's files.
    components
        What to run.
    """

    def __init__(self, layout: Layout, components: list[Component]) -> None:
        self._layout = layout
        self._components = {component.name: component for component in components}
        self._health = {name: Health(State.WAITING) for name in self._components}
        self._recorded = ""

    def run(self) -> None:
        """Run until a signal says to stop."""
        watched = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
        signal.pthread_sigmask(signal.SIG_BLOCK, watched)
        while True:
            self._reap()
            self._start()
            self._probe()
            self._record()
            got = signal.sigtimedwait(watched, self._patience())
            if got is None or got.si_signo == signal.SIGCHLD:
                continue
            if got.si_signo != signal.SIGHUP:
                return
            self._revive()

    def _patience(self) -> float:
        settled = {State.READY, State.DIED}
        started = all(health.state in settled for health in self._health.values())
        return _IDLE_POLL if started else _STARTING_POLL

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                for name, health in self._health.items():
                    if health.pid == pid:
                        self._health[name] = Health(State.DIED, 0, _describe(status))

    def _start(self) -> None:
        for name, component in self._components.items():
            if self._health[name].state is not State.WAITING:
                continue
            if all(self._health[other].state is State.READY for other in component.after):
                self._health[name] = Health(State.STARTING, self._spawn(component))

    def _probe(self) -> None:
        for name, health in self._health.items():
            if health.state is State.STARTING and self._is_ready(self._components[name].ready):
                self._health[name] = Health(State.READY, health.pid)

    def _revive(self) -> None:
        for name, health in self._health.items():
            if health.state is State.DIED:
                self._health[name] = Health(State.WAITING)

    def _record(self) -> None:
        text = json.dumps({name: asdict(health) for name, health in self._health.items()})
        if text != self._recorded:
            self._layout.write(self._layout.health, text)
            self._recorded = text

    def _spawn(self, component: Component) -> int:
        log = os.open(
            self._layout.log(component.name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
        )
        parent = os.getpid()
        pid = os.fork()
        if pid:
            os.close(log)
            return pid
        try:
            os.setsid()
            _die_with_parent(parent)
            signal.pthread_sigmask(signal.SIG_SETMASK, set())
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.execvpe(component.argv[0], component.argv, os.environ | component.env)  # noqa: S606
        except OSError as error:
            print(f"{component.argv[0]} does not start: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(127)

    def _is_ready(self, ready: str) -> bool:
        scheme, _, target = ready.partition(":")
        try:
            if scheme == "tcp":
                host, _, port = target.rpartition(":")
                create_connection((host, int(port)), _PROBE_TIMEOUT).close()
            elif scheme == "unix":
                with closing(socket(AF_UNIX)) as probe:
                    probe.connect(target)
            elif scheme in {"http", "https"}:
                self._opener().open(ready, timeout=_PROBE_TIMEOUT).close()
        except (OSError, urllib.error.URLError):
            return False
        return True

    def _opener(self) -> urllib.request.OpenerDirector:
        """Return a client that trusts the cluster's authority alone, and uses no proxy."""
        context = ssl.create_default_context(cafile=str(self._layout.ca.certificate))
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )


def main() -> None:
    """Run the supervisor for the cluster whose directory is the argument."""
    # The mask reaches into containers' file systems, where others than root must read. The
    # cluster's directory as a whole is closed to others.
    os.umask(0o022)
    layout = Layout(Path(sys.argv[1]))
    plan = json.loads(layout.plan.read_text())
    if plan["namespace"] is not None:
        namespace.enter(layout, namespace.Plan.load(plan["namespace"]))
    components = [Component.load(component) for component in plan["components"]]
    Supervisor(layout, components).run()


def _die_with_parent(parent: int) -> None:
    """Ask the kernel to end this process with its parent, and check that it still has it."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit status {os.WEXITSTATUS(status)}"


if __name__ == "__main__":
    main()
