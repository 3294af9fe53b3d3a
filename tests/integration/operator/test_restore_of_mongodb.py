"""MongoDB is restored to an hour ago under a running operator: nothing that ended opens again.

The restored rows know neither what was rotated and revoked since, nor who went, nor whose consent
was taken back. The MdbApps and the Secrets in Kubernetes do.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.backups import back_up_mongodb
from support.credentials import opens, reads, wait_refused
from support.installation import Installation
from support.waiting import wait_until

pytestmark = pytest.mark.long

SPEC: dict[str, Any] = {"collections": [{"name": "c"}]}

CLOSED: dict[str, Any] = {"dataAccess": {"crossAppPolicy": "DenyAll"}}

MENDED_WITHIN = 30.0
"""Seconds from the end of a restore until nothing opens that should not."""


def rotate(here: Installation, name: str, request: str, version: int) -> str:
    """Rotate an app's secret; return the URI of the new version."""
    here.annotate(name, "rotate-requested", request)
    wait_until(
        lambda: here.secret(f"{name}-mdb")["secret-version"] == str(version),
        deadline=20,
        message=f"version {version} of {name}",
    )
    return here.secret(f"{name}-mdb")["uri"]


@pytest.mark.parametrize("runs", [True, False], ids=["running", "stopped"])
def test_what_ended_after_the_backup_does_not_open_again(
    installation: Installation, *, runs: bool
) -> None:
    here = installation
    process = here.start()
    for name in ("leaked", "gone", "owner"):
        here.apply(name, **SPEC)
        here.wait_condition(name)
    here.apply("reader", **SPEC, dataAccess={"readScopes": ["reader", "owner"]})
    here.wait_condition("reader", kind="GrantsResolved")
    here.wait_condition("reader")
    issued = [here.secret("leaked-mdb")["uri"]]
    gone, reader = here.secret("gone-mdb")["uri"], here.secret("reader-mdb")["uri"]
    assert reads(reader, "owner_c")
    backup = back_up_mongodb(here.server.client, here.database)

    issued += [rotate(here, "leaked", f"r{version}", version) for version in (2, 3)]
    here.annotate("leaked", "revoke-previous", "leaked")
    for uri in issued[:2]:
        wait_refused(uri, "a version that was revoked", deadline=20)
    # The requests are gone with the objects' history, as where Git is applied anew: what is asked
    # for again would hide what only the Secret still knows.
    annotations = {"mdb-engine.dev/rotate-requested": None, "mdb-engine.dev/revoke-previous": None}
    here.cluster.api.patch(
        "MdbApp", "leaked", {"metadata": {"annotations": annotations}}, here.apps
    )
    here.cluster.api.delete("MdbApp", "gone", here.apps)
    here.wait_gone("gone")
    here.apply("owner", **SPEC, **CLOSED)
    wait_until(lambda: not reads(reader, "owner_c"), message="the end of the consent")
    if not runs:
        here.stop(process)

    backup.restore()
    if not runs:
        assert opens(issued[0]), "MongoDB alone lets in who was revoked"
        process = here.start()

    def mended() -> bool:
        return not any(map(opens, [*issued, gone])) and not reads(reader, "owner_c")

    wait_until(mended, deadline=MENDED_WITHIN, message="nothing that ended opens again")
    # What ended is closed before anything new is issued: until then the status is of before.
    names = ("leaked", "owner", "reader")
    wait_until(
        lambda: all(opens(here.secret(f"{name}-mdb")["uri"]) for name in names),
        deadline=MENDED_WITHIN,
        message="the Secrets open MongoDB",
    )
    for name in names:
        here.wait_condition(name, deadline=30)
    assert int(here.secret("leaked-mdb")["secret-version"]) == 4
    wait_until(
        lambda: here.status("leaked")["secret"]["version"] == 4,
        message="the status tells of version 4",
    )
    assert here.secret("leaked-mdb")["uri"] not in issued
    here.stop(process)
