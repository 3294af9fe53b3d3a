"""One active operator among several replicas, by a Lease of the API server.

The election runs in a thread and an event loop of its own, so that a reconcile that blocks the main
loop can neither keep the Lease from being renewed nor keep its loss from being noticed. A process
that lost the Lease ends at once: there is no way to stop half-done work that is safer than not
being there. Rows in MongoDB are written by compare-and-set besides, so a process that was suspended
and woke up as a former leader changes none that its successor wrote. Users, roles, indexes and
collections know no such condition: a former leader could bring a user or a role back that its
successor has just dropped, which the successor's next look mends, and before each collection that
it drops it reads once more whether the registration is still the one that it ends.

Clocks of different nodes are never compared. A replica measures with its own monotonic clock for
how long it has not *seen* the Lease change, as client-go does.

A Lease that somebody deletes has a holder that does not know it yet. It makes the Lease anew when
it renews, and whoever saw it before waits as for one that is silent. Only a process that has never
seen it takes it at once, since a first start has nobody to wait for.
"""

from __future__ import annotations

import asyncio
import enum
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NoReturn

import structlog

from mdb_operator.constants import EXIT_LEASE_LOST
from mdb_operator.exceptions import AlreadyExists, Conflict, KubernetesError, NotFound
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.kubernetes.leases import LeaseRecord, LeaseStore
from mdb_operator.kubernetes.resources import older

__all__ = ["ElectionTimes", "LeaderElection", "LeaderThread", "Term", "end_process"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ElectionTimes:
    """The figures of an election, in seconds.

    Notes
    -----
    After a ``kill -9`` another replica leads within ``lease + 2 * retry``: 14 s by default, which
    leaves some seconds of the promised 20 for the start of the controller.
    """

    lease: float = 10.0  # how long others wait after they last saw the Lease change
    # The leader gives up after it: shorter than ``lease``, so that it has ended before another one
    # starts.
    renew_deadline: float = 6.0
    retry: float = 2.0  # the pause between two attempts of either

    def __post_init__(self) -> None:
        """Refuse figures under which two replicas could lead at once."""
        if not 0 < self.retry < self.renew_deadline < self.lease:
            raise ValueError("an election needs 0 < retry < renew_deadline < lease")


class Term(enum.Enum):
    """How a time as leader ended."""

    RELEASED = "Released"
    """By our own stop: the Lease is free and another replica takes it at once."""

    LOST = "Lost"
    """Another holds it, or it could not be renewed in time."""


class LeaderElection:
    """Contends for the Lease, then keeps it.

    The identity is unique for this process: a restarted container is another contender. Clock
    (monotonic, in seconds) and sleep are given so that a test decides what time it is.
    """

    def __init__(
        self,
        leases: LeaseStore,
        identity: str,
        times: ElectionTimes | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._leases = leases
        self._identity = identity
        self._times = times or ElectionTimes()
        self._clock = clock
        self._sleep = sleep
        self._seen: LeaseRecord | None = None
        self._seen_at = clock()
        self._held: LeaseRecord | None = None
        self._renewed_at = clock()

    async def acquire(self) -> None:
        """Wait until this process is the leader."""
        while True:
            started = self._clock()
            try:
                held = await self._try_acquire()
            except (AlreadyExists, Conflict):
                held = None  # another replica was faster
            except KubernetesError as error:
                _log.warning("The Lease could not be read or taken", error=error.message)
                held = None
            if held is not None:
                # From before the request: the server may have written long before it answered.
                self._held, self._renewed_at = held, started
                _log.info("This process leads now", identity=self._identity, lease=self._name)
                return
            await self._sleep(self._times.retry)

    async def keep(self) -> None:
        """Renew the Lease until it is lost; return then."""
        while True:
            since = self._clock() - self._renewed_at
            await self._sleep(max(0.0, min(self._times.retry, self._times.renew_deadline - since)))
            left = self._times.renew_deadline - (self._clock() - self._renewed_at)
            if left <= 0:
                _log.error("The Lease was not renewed in time", lease=self._name)
                return
            try:
                async with asyncio.timeout(left):
                    if not await self._renew():
                        return
            except TimeoutError:
                _log.error("The Lease was not renewed in time", lease=self._name)
                return

    async def release(self) -> None:
        """Give the Lease back, so that another replica takes it at once."""
        held, self._held = self._held, None
        if held is None:
            return
        try:
            async with asyncio.timeout(self._times.renew_deadline):
                await self._leases.replace(held.released())
        except (KubernetesError, TimeoutError) as error:
            _log.info("The Lease was not released and runs out instead", error=str(error))
        else:
            _log.info("The Lease was released", lease=self._name)

    @property
    def _name(self) -> str:
        return f"{self._leases.namespace}/{self._leases.name}"

    @property
    def _duration(self) -> int:
        # The API stores whole seconds; rounding up never lets two lead at once.
        return max(1, -int(-self._times.lease // 1))

    async def _try_acquire(self) -> LeaseRecord | None:
        found = await self._leases.get()
        if found is not None and found.holder == self._identity:
            # Taken by a request of ours whose answer got lost.
            return await self._leases.replace(found.renewed())
        now = self._clock()
        record = found
        if record is None and self._seen is not None:
            record = replace(self._seen, resource_version=None)  # deleted, with a holder at work
        if record != self._seen:
            self._seen, self._seen_at = record, now
        if record is not None and record.holder and now - self._seen_at < record.duration_seconds:
            return None
        if found is None:
            return await self._leases.create(LeaseRecord.first(self._identity, self._duration))
        return await self._leases.replace(found.taken_by(self._identity, self._duration))

    async def _renew(self) -> bool:
        """Renew once; False if another holds the Lease, True otherwise, even after an error."""
        assert self._held is not None  # noqa: S101 - `keep` follows `acquire`
        started, held = self._clock(), self._held.renewed()
        try:
            try:
                held = await self._leases.replace(held)
            except NotFound:
                _log.warning("The Lease was deleted and is made anew", lease=self._name)
                held = await self._leases.create(replace(held, resource_version=None))
        except (Conflict, AlreadyExists):
            # Somebody wrote the Lease: another holder, a person's annotation, or we ourselves in a
            # request whose answer got lost.
            return await self._reread()
        except KubernetesError as error:
            _log.warning("The Lease could not be renewed yet", error=error.message)
            return True
        self._renewed_at = started
        return self._keeps(held)

    async def _reread(self) -> bool:
        try:
            record = await self._leases.get()
        except KubernetesError as error:
            _log.warning("The Lease could not be read", error=error.message)
            return True
        if record is None:
            return True  # deleted in between: the next attempt makes it anew
        if record.holder != self._identity:
            _log.error("Another process took the Lease", lease=self._name)
            return False
        return self._keeps(record)

    def _keeps(self, record: LeaseRecord) -> bool:
        """Go on with the record, unless it is older than what we held.

        Then the API server was restored. Every version that this process has seen is one of the
        future, and a watch from there shows nothing; a new process starts from what there is.
        """
        before, self._held = self._held, record
        if before is None or not older(
            record.resource_version or "", before.resource_version or ""
        ):
            return True
        _log.error("The API server was restored to an older state; the process starts anew")
        return False


def end_process(term: Term) -> NoReturn:
    """End this process at once, without any clean-up that could still write something."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_LEASE_LOST if term is Term.LOST else 0)


class LeaderThread:
    """Runs a `LeaderElection` beside the main loop."""

    def __init__(
        self,
        # In the calling event loop: the thread does not share the main one.
        connect: Callable[[], Awaitable[KubeClient]],
        elect: Callable[[KubeClient], LeaderElection],
        on_lost: Callable[[Term], None] = end_process,  # called in the thread
    ) -> None:
        self._connect = connect
        self._elect = elect
        self._on_lost = on_lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._started = threading.Event()
        self._main = asyncio.get_running_loop()
        self._leading: asyncio.Future[None] = self._main.create_future()
        self._thread = threading.Thread(target=self._run, name="leader-election", daemon=True)

    def start(self) -> None:
        """Start contending."""
        self._thread.start()
        self._started.wait()

    async def wait_leading(self) -> None:
        """Wait, in the main loop, until this process is the leader."""
        await asyncio.shield(self._leading)

    async def stop(self) -> None:
        """Give the Lease back and end the thread."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            with suppress(RuntimeError):  # the loop ended in this very moment
                self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            asyncio.run(self._contend())
        except Exception as error:  # noqa: BLE001 - a thread has nobody above it to tell
            _log.exception("The leader election failed")
            self._resolve(error)
            self._on_lost(Term.LOST)

    async def _contend(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._started.set()
        client = await self._connect()
        try:
            election = self._elect(client)
            if not await self._until_stopped(election.acquire()):
                return
            self._resolve(None)
            if await self._until_stopped(election.keep()):
                self._on_lost(Term.LOST)
            else:
                await election.release()
        finally:
            await client.aclose()

    async def _until_stopped(self, work: Awaitable[None]) -> bool:
        """Return True if the work ended by itself, False if the stop came first."""
        assert self._stop is not None  # noqa: S101 - set before the first call
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            stop.cancel()
            task.result()
            return True
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        return False

    def _resolve(self, error: Exception | None) -> None:
        def resolve() -> None:
            if self._leading.done():
                return
            if error is None:
                self._leading.set_result(None)
            else:
                self._leading.set_exception(error)

        with suppress(RuntimeError):  # the main loop is closed
            self._main.call_soon_threadsafe(resolve)
