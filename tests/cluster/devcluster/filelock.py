"""Locks between processes that the kernel drops with the process that holds them."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def hold(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file, made if missing, for the length of a block.

    Parameters
    ----------
    path
        The lock file. It is never removed: removing a lock file while another process waits for
        it would let two processes hold "the" lock.
    waiting
        Called once when another process holds the lock, to tell the user why nothing happens.
    """
    with _opened(path) as descriptor:
        if not _lock_now(descriptor):
            if waiting is not None:
                waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def share(path: Path) -> Iterator[None]:
    """Hold a lock together with any number of others who share it, for the length of a block."""
    with _opened(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def hold_if_free(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock for the length of a block, if nobody holds it or shares it now.

    Yields
    ------
    bool
        Whether it is held.
    """
    with _opened(path) as descriptor:
        yield _lock_now(descriptor)


def is_held(path: Path) -> bool:
    """Say whether any process holds the lock on a file; a missing file is not held."""
    try:
        with _opened(path, os.O_RDWR) as descriptor:
            return not _lock_now(descriptor)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _opened(path: Path, flags: int = os.O_RDWR | os.O_CREAT) -> Iterator[int]:
    """Open a lock file for the length of a block; with it the lock on it is given back."""
    descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_now(descriptor: int) -> bool:
    """Take the exclusive lock if that needs no waiting; say whether it is taken."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
