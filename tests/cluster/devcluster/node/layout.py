"""The files of one cluster, all in one directory that only its user can read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from devcluster.errors import DevclusterError


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Where a certificate and its key are.

    Parameters
    ----------
    certificate, key
        PEM files.
    """

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Names the files of the cluster in a directory.

    Parameters
    ----------
    root
        The directory.
    """

    root: Path

    @property
    def record(self) -> Path:
        """What runs: see :mod:`devcluster.node.record`."""
        return self.root / "cluster.json"

    @property
    def plan(self) -> Path:
        """What the supervisor is to do."""
        return self.root / "plan.json"

    @property
    def health(self) -> Path:
        """What the supervisor saw last."""
        return self.root / "health.json"

    @property
    def logs(self) -> Path:
        """The components' logs, and the pods'."""
        return self.root / "logs"

    @property
    def tools(self) -> Path:
        """The directory with kubectl and helm, for PATH."""
        return self.root / "tools"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.kubeconfig_of("admin")

    @property
    def ca(self) -> KeyPair:
        """The authority that signs everything but etcd's certificates."""
        return self.pair("ca")

    @property
    def etcd_ca(self) -> KeyPair:
        """Etcd's own authority: a client certificate of the cluster must not open etcd."""
        return self.pair("etcd-ca")

    def log(self, component: str) -> Path:
        """Return the log of a component."""
        return self.logs / f"{component}.log"

    def pair(self, name: str) -> KeyPair:
        """Return a certificate and its key by name."""
        return KeyPair(self.root / "pki" / f"{name}.crt", self.root / "pki" / f"{name}.key")

    def kubeconfig_of(self, user: str) -> Path:
        """Return the kubeconfig of a component or of the administrator."""
        return self.root / "kubeconfig" / f"{user}.yaml"

    def config(self, name: str) -> Path:
        """Return a configuration file of a component."""
        return self.root / "config" / name

    def data(self, name: str) -> Path:
        """Return a directory in which a component keeps its data."""
        return self.root / "data" / name

    def write(self, path: Path, content: str | bytes) -> Path:
        """Write a file that only the user can read, so that readers see all of it or nothing.

        Raises
        ------
        DevclusterError
            If it cannot be written.
        """
        data = content.encode() if isinstance(content, str) else content
        new = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            new.replace(path)
        except OSError as error:
            raise DevclusterError(
                f"Cannot write {path}: {error.strerror}",
                "The cluster keeps its files there; set XDG_STATE_HOME to use another place.",
            ) from error
        return path
