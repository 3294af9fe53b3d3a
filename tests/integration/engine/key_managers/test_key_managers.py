"""Every key manager by its own client and protocol: what it wraps, refuses and says."""

from __future__ import annotations

import asyncio
import secrets
import time
import traceback
from typing import Any

import pytest
from support import leakscan
from support.key_managers import Service

from mdb_engine.core.key_manager import KeyContext, WrappedKey
from mdb_engine.exceptions import KeyManagerUnavailable, MasterKeyError
from mdb_engine.key_managers import RemoteKeyManager
from mdb_engine.key_managers import remote as remote_module

ORDERS = KeyContext("orders", 1, "dek-1")


def new_dek() -> bytes:
    dek = secrets.token_bytes(32)
    leakscan.register(dek.hex(), "a DEK")
    return dek


@pytest.mark.long
async def test_what_was_wrapped_opens_for_another_process(
    service: Service, manager: RemoteKeyManager
) -> None:
    dek = new_dek()
    wrapped = await manager.wrap(dek, ORDERS)
    assert manager.owns(wrapped.key_id)
    assert await manager.active_key_id() == wrapped.key_id
    assert dek not in wrapped.ciphertext
    other = service.manager()
    assert await other.unwrap(wrapped, ORDERS) == dek
    await other.aclose()


async def test_what_was_moved_to_another_row_does_not_open(
    service: Service, manager: RemoteKeyManager
) -> None:
    wrapped = await manager.wrap(new_dek(), ORDERS)
    cold = service.manager()
    for slug, version, dek_id in (("shop", 1, "dek-1"), ("orders", 2, "dek-1"), ("orders", 1, "2")):
        for one in (manager, cold):
            with pytest.raises(MasterKeyError, match=f"does not open .*{slug}") as caught:
                await one.unwrap(wrapped, KeyContext(slug, version, dek_id))
            assert not isinstance(caught.value, KeyManagerUnavailable)


async def test_what_is_no_ciphertext_does_not_open(manager: RemoteKeyManager) -> None:
    key_id = await manager.active_key_id()
    wrong: list[Any] = ["text", None, [b"x" * 60], b"", b"x" * 300, b"vault:v1:"]
    for one in wrong:
        with pytest.raises(MasterKeyError):
            await manager.unwrap(WrappedKey(key_id, one), ORDERS)


async def test_a_changed_ciphertext_does_not_open(
    service: Service, manager: RemoteKeyManager
) -> None:
    wrapped = await manager.wrap(new_dek(), ORDERS)
    changed = bytearray(wrapped.ciphertext)
    changed[len(changed) // 2] ^= 1
    with pytest.raises(MasterKeyError):
        await service.manager().unwrap(WrappedKey(wrapped.key_id, bytes(changed)), ORDERS)


async def test_a_rotation_gives_new_keys_an_id_of_their_own_and_opens_the_old_ones(
    service: Service, manager: RemoteKeyManager
) -> None:
    dek = new_dek()
    before = await manager.wrap(dek, ORDERS)
    service.rotate()
    after = await manager.wrap(dek, ORDERS)
    assert after.key_id != before.key_id
    assert await manager.active_key_id() == after.key_id
    other = service.manager()
    assert await other.check() == after.key_id
    assert await other.unwrap(before, ORDERS) == dek
    assert await other.unwrap(after, ORDERS) == dek


async def test_a_key_manager_that_is_down_stops_only_what_needs_it(
    service: Service, manager: RemoteKeyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    dek = new_dek()
    wrapped = await manager.wrap(dek, ORDERS)
    service.cut()
    assert await manager.unwrap(wrapped, ORDERS) == dek
    with pytest.raises(KeyManagerUnavailable, match="does not answer") as caught:
        await manager.wrap(dek, ORDERS)
    assert str(manager) in str(caught.value)
    began = time.monotonic()
    for _ in range(300):  # as many apps that wait cost nobody a time-out each
        with pytest.raises(KeyManagerUnavailable):
            await manager.wrap(dek, ORDERS)
    assert time.monotonic() - began < 1
    cold = service.manager()
    with pytest.raises(KeyManagerUnavailable):
        await cold.unwrap(wrapped, ORDERS)
    service.mend()
    monkeypatch.setattr(remote_module, "PAUSE_SECONDS", 0)
    assert await manager.check() == wrapped.key_id
    assert (await manager.wrap(dek, ORDERS)).key_id == wrapped.key_id
    assert await cold.check() == wrapped.key_id
    assert await cold.unwrap(wrapped, ORDERS) == dek


async def test_credentials_that_expired_are_said_and_their_successors_used(
    service: Service, manager: RemoteKeyManager
) -> None:
    dek = new_dek()
    wrapped = await manager.wrap(dek, ORDERS)
    service.expire()
    with pytest.raises(KeyManagerUnavailable) as caught:
        await manager.check()
    assert any(word in str(caught.value) for word in ("expired", "renew", "log"))
    assert await manager.unwrap(wrapped, ORDERS) == dek
    service.renew()
    assert await manager.check() == wrapped.key_id


async def test_nothing_secret_is_shown(service: Service, manager: RemoteKeyManager) -> None:
    await manager.wrap(new_dek(), ORDERS)
    texts = [repr(manager), str(manager)]
    for trouble in (service.expire, service.cut):
        trouble()
        with pytest.raises(KeyManagerUnavailable) as caught:
            await manager.check()
        assert caught.value.__suppress_context__
        texts += [repr(caught.value), *traceback.format_exception(caught.value)]
    assert leakscan.occurrences("\n".join(texts)) == []


async def test_many_calls_at_once(manager: RemoteKeyManager) -> None:
    contexts = [KeyContext(f"app{n}", 1, "d") for n in range(40)]
    deks = [new_dek() for _ in contexts]
    wrapped = await asyncio.gather(*map(manager.wrap, deks, contexts))
    manager._deks.clear()
    assert await asyncio.gather(*map(manager.unwrap, wrapped, contexts)) == deks
