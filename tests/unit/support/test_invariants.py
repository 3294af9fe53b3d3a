"""The invariants are tried on what violates them, as a check that finds nothing proves nothing."""

from __future__ import annotations

import base64
import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest
from support.invariants import ending

from mdb_engine.constants import GRANTS_COLLECTION
from mdb_operator.constants import SECRET_TYPE

SOON = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def mounted(version: int, verifiers: dict[int, dt.datetime | None]) -> Any:
    """Return an app whose Secret holds a version, and the versions that pods accept."""
    entries = {"app-slug": "shop", "app-secret": "x" * 43, "secret-version": str(version)}
    data = {key: base64.b64encode(text.encode()).decode() for key, text in entries.items()}
    secret = {"type": SECRET_TYPE, "metadata": {"name": "shop-mdb"}, "data": data}
    row = {
        "slug": "shop",
        "verifiers": [{"version": one, "not_after": end} for one, end in verifiers.items()],
    }
    return SimpleNamespace(
        watched=["apps"],
        cluster=SimpleNamespace(api=SimpleNamespace(objects=lambda _kind, _where: [secret])),
        mongo={GRANTS_COLLECTION: SimpleNamespace(find_one=lambda _query: row)},
    )


@pytest.mark.parametrize(
    ("verifiers", "found"),
    [
        ({1: None}, []),
        ({2: None, 1: None}, []),  # the next one is not in the Secret yet
        ({2: None, 1: SOON}, ["shop: version 1 is mounted, and accepted: True"]),
        ({2: None}, ["shop: version 1 is mounted, and accepted: False"]),
    ],
)
def test_a_mounted_version_that_ends_or_is_not_accepted_is_found(
    verifiers: dict[int, dt.datetime | None], found: list[str]
) -> None:
    assert ending(mounted(1, verifiers)) == found
