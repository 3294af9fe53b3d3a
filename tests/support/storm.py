"""Changes of many apps, one after the other, each of an app that is drawn by lot."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from support.installation import Installation

__all__ = ["Storm"]

MOST_ROTATIONS = 3
"""Of one app: with five valid versions a further rotation waits."""


@dataclass
class Storm:
    """Changes of apps, without an end.

    Parameters
    ----------
    here
        The installation.
    names
        The apps.
    lot
        What draws.
    where
        The namespace of each app; that of `here.apps` where it is missing.
    kept
        Apps that pods are of, with those that they read: their secrets, indexes and further scopes
        change as all do, but nobody takes away what their pods need.
    specs
        What each is at first, and by now.
    rotations
        Whether secrets rotate and are revoked.
    overlap
        Seconds for which a version is valid after its rotation.
    """

    here: Installation = field(repr=False)
    names: list[str]
    lot: random.Random = field(default_factory=lambda: random.Random(15), repr=False)  # noqa: S311
    where: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    rotations: bool = True
    overlap: float = math.inf
    gone: set[str] = field(default_factory=set)
    made: Counter[str] = field(default_factory=Counter)
    rotated: dict[str, list[float]] = field(default_factory=dict)  # when, on the monotonic clock
    newest: Counter[str] = field(default_factory=Counter)  # at most
    requests: itertools.count[int] = field(default_factory=itertools.count)

    def begin(self) -> None:
        """Make all apps."""
        for name in self.names:
            self.specs.setdefault(name, {"collections": [{"name": "c"}]})
            self._apply(name)
        self.newest.update(self.names)

    def change(self) -> None:
        """Do one thing to one app."""
        name = self.lot.choice(self.names)
        if name in self.gone:
            if self.here.get("MdbApp", name, self.namespace(name)) is None:
                self.gone.remove(name)
                self.newest[name] += 1
                self._apply(name)
                self.made["made anew"] += 1
            return
        weights: dict[Callable[[str], None], int] = {self.read: 4, self.extend: 2, self.lose: 2}
        if self.rotations:
            weights |= {self.rotate: 4}
        if name not in self.kept:
            weights |= {self.close: 2, self.consent: 2, self.rename: 2, self.delete: 1}
            if self.rotations:
                weights |= {self.revoke: 2}
        (what,) = self.lot.choices(list(weights), list(weights.values()))
        what(name)
        self.made[what.__name__] += 1

    def namespace(self, name: str) -> str:
        """Return where an app is."""
        return self.where.get(name, self.here.apps)

    def rotate(self, name: str) -> None:
        now = time.monotonic()
        valid = [at for at in self.rotated.get(name, ()) if now - at < self.overlap]
        if len(valid) < MOST_ROTATIONS:
            self.rotated[name] = [*valid, now]
            self.newest[name] += 1
            self._annotate(name, "rotate-requested")

    def revoke(self, name: str) -> None:
        self.newest[name] += 1  # which alone is left
        self._annotate(name, "revoke-previous")

    def read(self, name: str) -> None:
        needed = (name, *self.kept.get(name, ()))
        others = self.lot.sample([one for one in self.names if one not in needed], 3)
        access = self._access(name)
        access["readScopes"] = [*needed, *others]
        access.pop("crossAppPolicy", None)
        self._apply(name)

    def consent(self, name: str) -> None:
        """Let apps of other namespaces read it, or no longer."""
        access = self._access(name)
        access.pop("crossAppPolicy", None)
        if access.pop("readers", None) is None:
            access["readers"] = [{"namespace": "*"}]
        self._apply(name)

    def close(self, name: str) -> None:
        if self.specs[name].pop("dataAccess", {}).get("crossAppPolicy") is None:
            self.specs[name]["dataAccess"] = {"crossAppPolicy": "DenyAll"}
        self._apply(name)

    def extend(self, name: str) -> None:
        index = {"name": f"by{next(self.requests)}", "keys": [{"field": "by"}]}
        self.specs[name]["collections"] = [{"name": "c"}, {"name": "d", "indexes": [index]}]
        self._apply(name)

    def rename(self, name: str) -> None:
        self.specs[name]["secret"] = {"name": f"{name}-{next(self.requests)}"}
        self._apply(name)

    def lose(self, name: str) -> None:
        secret = self.specs[name].get("secret", {}).get("name", f"{name}-mdb")
        self.here.cluster.api.delete("Secret", secret, self.namespace(name))

    def delete(self, name: str) -> None:
        self.here.cluster.api.delete("MdbApp", name, self.namespace(name))
        self.gone.add(name)
        self.rotated.pop(name, None)

    def _access(self, name: str) -> dict[str, Any]:
        access: dict[str, Any] = self.specs[name].setdefault("dataAccess", {})
        return access

    def _annotate(self, name: str, key: str) -> None:
        change = {"metadata": {"annotations": {f"mdb-engine.dev/{key}": str(next(self.requests))}}}
        self.here.cluster.api.patch("MdbApp", name, change, self.namespace(name))

    def _apply(self, name: str) -> None:
        self.here.apply(name, namespace=self.namespace(name), **self.specs[name])
