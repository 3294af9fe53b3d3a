"""The record of a running cluster, and whether what it tells of still runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from devcluster.node.component import Health, State
from devcluster.node.layout import Layout
from devcluster.node.processes import ProcessId, boot_id


class Kind(StrEnum):
    """What a cluster consists of."""

    NODE = "node"
    CONTROL_PLANE = "control-plane"


@dataclass(frozen=True, slots=True)
class Record:
    """What a later command must know of a cluster.

    Parameters
    ----------
    kind
        Whether it has a node.
    boot
        The boot of the machine in which it was started.
    supervisor
        Its first process, as the machine sees it.
    url
        The API server's URL.
    index
        The number of the node's network; None without a node.
    kubernetes
        The version of Kubernetes.
    """

    kind: Kind
    boot: str
    supervisor: ProcessId
    url: str
    index: int | None
    kubernetes: str

    def runs(self) -> bool:
        """Say whether the cluster's first process still runs."""
        return self.boot == boot_id() and self.supervisor.alive()


def save(layout: Layout, record: Record) -> None:
    """Write the record of a cluster."""
    content = {
        "kind": record.kind,
        "boot": record.boot,
        "supervisor": record.supervisor.dump(),
        "url": record.url,
        "index": record.index,
        "kubernetes": record.kubernetes,
    }
    layout.write(layout.record, json.dumps(content, indent=2))


def load(layout: Layout) -> Record | None:
    """Return the record of a cluster; None if there is none, or none that can be read."""
    try:
        content = json.loads(layout.record.read_text())
        return Record(
            kind=Kind(content["kind"]),
            boot=content["boot"],
            supervisor=ProcessId.load(content["supervisor"]),
            url=content["url"],
            index=content["index"],
            kubernetes=content["kubernetes"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def load_health(layout: Layout) -> dict[str, Health]:
    """Return how the components fare; empty before the supervisor wrote anything."""
    try:
        content = json.loads(layout.health.read_text())
    except FileNotFoundError:
        return {}
    return {
        name: Health(State(entry["state"]), entry["pid"], entry["reason"])
        for name, entry in content.items()
    }


def last_line(layout: Layout, component: str) -> str:
    """Return the last line that a component wrote, or nothing."""
    try:
        with layout.log(component).open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - 8192))
            lines = log.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
