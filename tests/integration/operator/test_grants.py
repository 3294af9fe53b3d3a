"""Who may read whom, as the statuses of both sides tell it, without anyone touching the reader."""

from __future__ import annotations

from typing import Any

import pytest
from support.installation import Installation
from support.waiting import wait_until


def scopes(*slugs: str, **more: Any) -> dict[str, Any]:
    return {"readScopes": list(slugs), **more}


def wait_scopes(
    running: Installation,
    name: str,
    granted: list[str],
    denied: dict[str, str],
    namespace: str | None = None,
) -> None:
    """Wait until the status says who is granted and denied; then what pods read must say it too."""

    def seen() -> tuple[Any, Any]:
        status = running.status(name, namespace)
        return status.get("grantedScopes"), {
            row["slug"]: row["reason"] for row in status.get("deniedScopes", [])
        }

    wait_until(
        lambda: seen() == (granted, denied),
        message=lambda: f"{name}: {granted} and not {denied}, but {seen()}",
    )
    row = running.mongo["_mdb_engine_grants"].find_one({"slug": granted[0]})
    assert row is not None
    assert sorted(row["read_scopes"]) == sorted(granted)


@pytest.mark.long
def test_a_reader_waits_for_its_owner_and_follows_what_becomes_of_it(
    running: Installation,
) -> None:
    running.apply("g-a-reader", dataAccess=scopes("g-a-reader", "g-owner"))
    running.wait_condition("g-a-reader")  # it works with what it has
    message = running.wait_condition("g-a-reader", "GrantPending", "GrantsResolved")["message"]
    assert "g-owner" in message
    wait_scopes(running, "g-a-reader", ["g-a-reader"], {"g-owner": "GrantPending"})

    running.apply("g-owner")
    running.wait_condition("g-a-reader", "Provisioned", "GrantsResolved")
    wait_scopes(running, "g-a-reader", ["g-a-reader", "g-owner"], {})

    running.apply("g-owner", dataAccess={"crossAppPolicy": "DenyAll"})
    running.wait_condition("g-a-reader", "NotGranted", "GrantsResolved")
    wait_scopes(running, "g-a-reader", ["g-a-reader"], {"g-owner": "NotGranted"})

    running.apply("g-owner", dataAccess={"crossAppPolicy": "Explicit"})
    wait_scopes(running, "g-a-reader", ["g-a-reader", "g-owner"], {})

    running.kubectl("delete", "mdbapp", "g-owner")
    wait_scopes(running, "g-a-reader", ["g-a-reader"], {"g-owner": "GrantPending"})
    assert running.condition("g-a-reader")["status"] == "True"

    running.apply("g-owner")
    wait_scopes(running, "g-a-reader", ["g-a-reader", "g-owner"], {})


@pytest.mark.long
def test_another_namespace_needs_the_owners_consent(running: Installation) -> None:
    bi = running.others["bi"]
    running.apply("c-owner")
    running.wait_condition("c-owner")
    running.apply("c-a-sales", namespace=bi, dataAccess=scopes("c-a-sales", "c-owner"))
    message = running.wait_condition("c-a-sales", "NotGranted", "GrantsResolved", namespace=bi)
    assert "readers" in message["message"]

    running.apply("c-owner", dataAccess={"readers": [{"namespace": bi, "slug": "c-a-sales"}]})
    wait_scopes(running, "c-a-sales", ["c-a-sales", "c-owner"], {}, bi)

    running.apply("c-owner", dataAccess={"readers": [{"namespace": bi, "slug": "another"}]})
    wait_scopes(running, "c-a-sales", ["c-a-sales"], {"c-owner": "NotGranted"}, bi)

    running.apply("c-owner", dataAccess={"readers": [{"namespace": "*"}]})
    wait_scopes(running, "c-a-sales", ["c-a-sales", "c-owner"], {}, bi)


def test_who_denies_all_reads_nobody(running: Installation) -> None:
    running.apply("d-owner")
    running.apply(
        "d-a-closed", dataAccess=scopes("d-a-closed", "d-owner", crossAppPolicy="DenyAll")
    )
    running.wait_condition("d-owner")
    wait_scopes(running, "d-a-closed", ["d-a-closed"], {"d-owner": "NotGranted"})
