"""Specs of the CRD's own schema, annotations and statuses: a sample of `make fuzz-manifests`."""

from __future__ import annotations

import time

import pytest
from support.fuzzed import fuzzed
from support.fuzzing import manifests, metadata
from support.installation import Installation

SECONDS = 12
"""For each of the two; batches that began are ended."""


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("work", [manifests, metadata], ids=["manifests", "annotations"])
def test_whatever_the_api_server_takes_ends_in_a_status_and_harms_nobody(
    installation: Installation, work: object
) -> None:
    assert callable(work)
    with fuzzed(installation) as world:
        end = time.monotonic() + SECONDS
        work(world, lambda: time.monotonic() < end)
        world.end()
    assert world.findings == []
    assert world.counts["accepted"]
