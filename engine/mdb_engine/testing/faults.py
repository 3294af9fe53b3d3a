"""Let operations on a scoped database fail when a test says so.

The database stays what it is: everything else is scoped, sent and answered as before. So a test
sees what its app makes of an outage between two writes, and what has been written by then.
"""

from __future__ import annotations

from dataclasses import dataclass

from mdb_engine.access.model import Access, Gate
from mdb_engine.scoped import ScopedDatabase
from mdb_engine.testing.database import refuse_in_a_pod

__all__ = ["Faults"]


@dataclass(slots=True)
class _Fault:
    error: Exception
    remaining: int
    times: int
    happens: bool

    def due(self) -> bool:
        """Count an operation; say whether it is one of those that fail."""
        if self.remaining > 1:
            self.remaining -= 1
            return False
        self.times -= 1
        return self.times >= 0


class Faults:
    """Errors that a test has asked for, and the operations that there were.

    Examples
    --------
    ::

        faults = Faults()
        db = faults.on(scoped_db)
        faults.fail(DatabaseUnavailable("gone"), at=2)   # the second operation from now on
        faults.fail(AutoReconnect("lost"), happens=True) # the next one happens, its answer is lost
    """

    def __init__(self) -> None:
        self.operations: list[tuple[str, str]] = []
        """Every operation that came to an end, as its name and its collection's in MongoDB."""
        self._faults: list[_Fault] = []

    def on(self, database: ScopedDatabase) -> ScopedDatabase:
        """Return the same database, whose operations are counted and fail when asked to.

        Raises
        ------
        ScopeDenied
            Where a binding of the operator is mounted.
        """
        refuse_in_a_pod("Faults")
        context = database._context  # noqa: SLF001 - of this library
        gate = _Gate(self, context.gate())
        return ScopedDatabase(gate, context.source(), context.driver, context.limits)

    def fail(self, error: Exception, *, at: int = 1, times: int = 1, happens: bool = False) -> None:
        """Let operations fail from now on.

        Parameters
        ----------
        error
            What is raised, as it is: of the engine, of the driver, or any other.
        at
            The first that fails: 1 is the next.
        times
            How many fail, one after another.
        happens
            Whether MongoDB does what is asked before it is raised, as when an answer is lost.
        """
        if at < 1 or times < 1:
            raise ValueError(f"at= and times= count from 1; they are {at} and {times}")
        self._faults.append(_Fault(error, at, times, happens))

    def clear(self) -> None:
        """Let nothing fail any more, and forget the operations."""
        self._faults.clear()
        self.operations.clear()

    def _raise(self, *, happened: bool) -> None:
        for fault in self._faults:
            if fault.happens is happened and fault.due():
                raise fault.error


class _Gate:
    """Stands before another gate; that one is asked first, so a wrong token is no other error."""

    notes_all = True

    def __init__(self, faults: Faults, gate: Gate) -> None:
        self._faults = faults
        self._gate = gate

    def admit(self) -> Access:
        access = self._gate.admit()
        self._faults._raise(happened=False)  # noqa: SLF001 - the two halves of one thing
        return access

    def record(self, operation: str, collection: str, owner: str, denied: Exception | None) -> None:
        self._gate.record(operation, collection, owner, denied)
        if denied is None:
            self._faults.operations.append((operation, collection))
            self._faults._raise(happened=True)  # noqa: SLF001 - the two halves of one thing
