"""Locks between processes: held by one, or shared by several."""

from __future__ import annotations

from pathlib import Path

from devcluster.filelock import hold, hold_if_free, is_held, share


def test_what_is_shared_is_nobodys_alone(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with share(lock), share(lock), hold_if_free(lock) as alone:
        assert not alone
    with hold_if_free(lock) as alone:
        assert alone
        assert is_held(lock)
    assert not is_held(lock)


def test_what_is_held_is_not_free(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with hold(lock), hold_if_free(lock) as alone:
        assert not alone
