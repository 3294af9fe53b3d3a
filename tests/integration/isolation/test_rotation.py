"""Twenty rotations while three clients work all the time: no operation fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.engine_world import OperatorHand
from support.load import under_load
from support.mongo import Database
from support.waiting import wait_until_async

from mdb_engine.core.secret import RotationResult

pytestmark = pytest.mark.long

ROTATIONS = 20

OVERLAP_SECONDS = 2
"""Much shorter than a spec may say (120), because twenty of them are waited for."""


async def rotate(hand: OperatorHand, slug: str) -> int:
    """Rotate as the operator does, as soon as fewer than five versions are valid."""
    while True:
        before = await hand.registry.secrets.reveal(slug)
        outcome = await hand.registry.rotate(
            slug, expected_version=before.version, overlap_seconds=OVERLAP_SECONDS
        )
        if outcome.result is RotationResult.ROTATED:
            return outcome.version
        await asyncio.sleep(0.05)
        await expire(hand, slug)


async def expire(hand: OperatorHand, slug: str) -> None:
    """End the versions whose overlap is over: verifiers first, then users."""
    await hand.registry.expire(slug)
    await hand._users()


def users(mongo: Database, slug: str) -> set[str]:
    found = mongo.client[mongo.name].command("usersInfo", 1)["users"]
    return {user["user"] for user in found if user["user"].startswith(f"{slug}.")}


@pytest.mark.timeout(120)
async def test_twenty_rotations_under_load_fail_no_operation(
    mongo_auth: Database, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    hand = OperatorHand(mongo_auth, "pymongo", tmp_path)
    try:
        await hand.register("shop", "orders")
        mounted = hand.mounted["shop"].directory / "..data"
        with under_load(tmp_path, "shop", "orders") as clients:

            async def moved() -> None:
                state = str(mounted.readlink())
                await wait_until_async(
                    lambda: all(client.state == state for client in clients),
                    deadline=20,
                    message=lambda: str({client.name: client.state for client in clients}),
                )

            await moved()
            started = time.monotonic()
            for _ in range(ROTATIONS):
                version = await rotate(hand, "shop")
                await hand._users()
                assert f"shop.v{version}" in users(mongo_auth, "shop")
                await hand.mount("shop")
                await moved()
                await expire(hand, "shop")
            last = {f"shop.v{ROTATIONS + 1}"}

            async def ended() -> bool:
                await expire(hand, "shop")
                return users(mongo_auth, "shop") == last

            await wait_until_async(
                ended,
                deadline=10,
                message=lambda: f"the end of all overlaps; users: {users(mongo_auth, 'shop')}",
            )
            assert not (await hand.registry.secrets.reveal("shop")).earlier
            record_property("seconds", time.monotonic() - started)
    finally:
        await hand.close()
