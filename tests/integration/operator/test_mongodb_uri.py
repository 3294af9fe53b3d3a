"""The operator's own password in MongoDB changes in its mounted Secret."""

from __future__ import annotations

from typing import Any

import pytest
from support.installation import Installation

pytestmark = pytest.mark.long


def test_a_changed_uri_ends_leader_and_standby_so_that_they_start_with_it(
    installation: Installation,
) -> None:
    file = installation.directory / "uri"
    uri = installation.server.uri
    file.write_text(uri)
    settings: dict[str, Any] = {"MONGODB_URI": "", "MONGODB_URI_FILE": str(file)}
    leader = installation.start(**settings)
    standby = installation.start(name="operator-1", wait=False, **settings)
    standby.wait_for("Waiting for the Lease")
    file.write_text(f"{uri}{'&' if '?' in uri else '?'}appName=other")
    for process in (leader, standby):
        assert process.wait_end() != 0
        assert "The URI of MongoDB has changed" in process.text()
        assert uri not in process.text()
