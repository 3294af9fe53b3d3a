"""The inside of the engine's namespaces: mounts and network, set up by their first process.

It then becomes an init that starts ``dockerd`` and reaps what containers leave behind.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from devcluster.node.addresses import NodeNetwork
from devcluster.node.namespace import join_link, mount

OUTSIDE = "tap0"
"""The interface that slirp4netns makes; the default route leads there."""

RESOLVER = "10.0.2.3"
"""Where slirp4netns passes queries on to the machine's resolver."""


def main() -> None:
    """Set up the namespaces and become the command.

    Arguments: the number of the network, then the command.
    """
    index, *command = sys.argv[1:]
    resolv_conf = Path("/etc/resolv.conf").resolve()  # before what it may lead to is hidden
    mount("--make-rshared", "/")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    ours = Path("/run/resolv.conf")
    ours.write_text(f"nameserver {RESOLVER}\n")
    if resolv_conf.is_relative_to("/run"):
        resolv_conf.parent.mkdir(parents=True, exist_ok=True)
        resolv_conf.touch()
    mount("--bind", str(ours), str(resolv_conf))
    join_link(NodeNetwork(int(index)))
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
