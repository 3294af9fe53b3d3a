"""A machine of a test's own: namespaces in which only the test's processes, links and rules are.

What a command leaves behind can then be seen exactly, whatever other tests do meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devcluster.node import cgroups
from devcluster.node.processes import child_of
from devcluster.paths import cache_dir

DEVCLUSTER = Path(sys.executable).with_name("devcluster")

_FIRST_PROCESS = """
import signal, subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # it reaps what is left to it, as an init does
print("ready", flush=True)
signal.pause()
"""

_SNAPSHOT = {
    "processes": "ps -eo args --no-headers | grep -vE '^(ps|sh|nsenter|grep) '",
    "mounts": "cut -d' ' -f3-7 /proc/self/mountinfo",
    "links": "ip -br link | awk '{print $1}'",
    "routes": "ip route show table all",
    "rules": "iptables-save | grep -v '^#' || true",
    "directories": "ls -1 /run /var/lib /var/log /opt /etc",
}


@dataclass(frozen=True, slots=True)
class Machine:
    """A place to run devcluster in.

    Parameters
    ----------
    home
        The home of the state; the cache is the real one, which holds the compiled programs.
    enter
        What to put before a command to run it in this place.
    """

    home: Path
    enter: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands: nothing that chooses another cluster."""
        kept = {name: value for name, value in os.environ.items() if "DEVCLUSTER" not in name}
        return kept | {
            "HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "DEVCLUSTER": "node",
            "DEVCLUSTER_COMMAND": str(DEVCLUSTER),
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start devcluster, with additions to its environment."""
        settings = [f"{name}={value}" for name, value in environment.items()]
        return subprocess.Popen(
            [*self.enter, "/usr/bin/env", *settings, str(DEVCLUSTER), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
        )

    def devcluster(self, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run devcluster to its end and return all that it printed."""
        running = self.start(*arguments, **environment)
        output, _ = running.communicate(timeout=120)
        assert running.returncode == code, f"devcluster {' '.join(arguments)}: {output}"
        return output

    def shell(self, script: str) -> str:
        """Run a shell script, which must succeed, and return its output."""
        done = subprocess.run(
            [*self.enter, "sh", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=self.environment,
        )
        assert done.returncode == 0, f"{script}: {done.stderr}"
        return done.stdout

    def kubectl(self, script: str, name: str = "devcluster") -> str:
        """Run a shell script with kubectl and helm for a cluster."""
        return self.shell(f'set -e; eval "$({DEVCLUSTER} env --name {name})"; {script}')

    def root_of(self, name: str) -> Path:
        """Return the directory of a cluster."""
        return self.home / "state" / "devcluster" / f"cluster-{name}"

    @property
    def engine_root(self) -> Path:
        """The directory of the Docker engine."""
        return self.home / "state" / "devcluster" / ".engine"

    def snapshot(self) -> dict[str, list[str]]:
        """Return all that a cluster could leave behind on this machine."""
        seen = {what: sorted(self.shell(script).split("\n")) for what, script in _SNAPSHOT.items()}
        seen["cgroups"] = [
            str(path)
            for root in (self.root_of("devcluster"), self.root_of("other"), self.engine_root)
            for path in cgroups.find(cgroups.name_of(root))
        ]
        return seen

    def changes_since(self, before: dict[str, list[str]]) -> dict[str, list[str]]:
        """Return what is different from a snapshot, with a sign before each line."""
        changes = {}
        for what, after in self.snapshot().items():
            came = [f"+ {line}" for line in after if line not in before[what]]
            went = [f"- {line}" for line in before[what] if line not in after]
            # The machine began with copies of all mounts; one ends when another test removes the
            # directory under it.
            changes[what] = came if what == "mounts" else came + went
        return {what: lines for what, lines in changes.items() if lines}


def home_with_cache(directory: Path) -> Path:
    """Return a home whose cache has the compiled programs, whoever will live there."""
    cache = directory / "cache" / "devcluster"
    cache.mkdir(parents=True)
    (cache / "bin").symlink_to(cache_dir() / "bin")
    return directory


@contextlib.contextmanager
def private_machine(home: Path) -> Iterator[Machine]:
    """Give a machine of the test's own; at the end all that runs on it is killed."""
    with subprocess.Popen(
        [
            *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *(sys.executable, "-c", _FIRST_PROCESS),
        ],
        stdout=subprocess.PIPE,
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == b"ready\n"
            first = child_of(running.pid)
            assert first is not None
            yield Machine(home, ("nsenter", "--target", str(first), "--net", "--mount", "--pid"))
        finally:
            running.kill()
