"""Whether an app can serve, and if not, why: what ``/ready`` answers."""

from __future__ import annotations

from dataclasses import dataclass

from mdb_engine.access.model import Grant
from mdb_engine.exceptions import MdbEngineError
from mdb_engine.models.manifest import Manifest

__all__ = ["Check", "Note", "Readiness", "differences"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold.

    Parameters
    ----------
    name
        What is checked.
    ok
        Whether it holds.
    message
        Why it does not, and what to do; for the log.
    summary
        The same for everybody: it names nothing and nobody.
    """

    name: str
    ok: bool
    message: str = ""
    summary: str = ""

    @classmethod
    def failed(cls, name: str, error: MdbEngineError) -> Check:
        """Return a check that an error says does not hold."""
        return cls(name, ok=False, message=error.message, summary=error.summary)


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody should know although the app serves: for the log, and for everybody."""

    message: str
    summary: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is known of an app at this moment, from memory: no I/O.

    Parameters
    ----------
    checks
        What must hold before it serves.
    notes
        What somebody should know although it serves.
    """

    checks: tuple[Check, ...]
    notes: tuple[Note, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether all checks hold."""
        return all(check.ok for check in self.checks)

    @property
    def details(self) -> tuple[str, ...]:
        """What does not hold and what else is to be known, for the log."""
        failed = (f"{check.name}: {check.message}" for check in self.checks if not check.ok)
        return (*failed, *(note.message for note in self.notes))


def differences(manifest: Manifest, grant: Grant) -> tuple[str, ...]:
    """Say how a manifest in an image differs from what is registered, as far as a pod can see.

    What is registered holds; a difference is only shown, because whoever builds an image must not
    be able to grant it anything.
    """
    found = []
    ungranted = sorted(set(manifest.read_scopes) - grant.read_scopes)
    if ungranted:
        found.append(f"manifest.json reads {', '.join(ungranted)}, which is not granted")
    unnamed = sorted(grant.read_scopes - set(manifest.read_scopes))
    if unnamed:
        found.append(f"{', '.join(unnamed)} is granted, but manifest.json does not read it")
    declared = set(manifest.managed_indexes)
    unregistered = sorted(declared - grant.collections)
    if unregistered:
        found.append(f"manifest.json declares {', '.join(unregistered)}, which is not registered")
    undeclared = sorted(grant.collections - declared)
    if undeclared:
        found.append(f"{', '.join(undeclared)} is registered, but not in manifest.json")
    return tuple(found)
