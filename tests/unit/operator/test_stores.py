"""What the stores decide without the API server."""

from __future__ import annotations

import datetime as dt
import re
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdb_engine.constants import SLUG_PATTERN
from mdb_engine.registry.models.app import Owner
from mdb_operator.constants import LABEL_OWNER_UID, SECRET_KEYS, SECRET_TYPE
from mdb_operator.exceptions import Expired, Forbidden, KubernetesUnavailable
from mdb_operator.kubernetes.errors import stream_error
from mdb_operator.kubernetes.resources import DEPLOYMENTS, SECRETS
from mdb_operator.kubernetes.secrets import (
    DesiredSecret,
    OwnWrites,
    SecretMetadata,
    StoredSecret,
)
from mdb_operator.kubernetes.workloads import _Mark, _needs_restart, restart_annotation

OWNER = Owner("shop", "dashboard", "uid-1")
DATA = dict.fromkeys(SECRET_KEYS, "hunter2")


def metadata(label: str | None, *references: dict[str, Any]) -> SecretMetadata:
    labels = {} if label is None else {LABEL_OWNER_UID: label}
    return SecretMetadata("shop", "s", "u", "1", labels=labels, owner_references=references)


OURS: dict[str, Any] = {"uid": "uid-1", "controller": True}
THEIRS: dict[str, Any] = {"uid": "uid-2", "controller": True}
PLAIN: dict[str, Any] = {"uid": "uid-2"}


@pytest.mark.parametrize(
    ("secret", "ours"),
    [
        (metadata("uid-1", OURS), True),
        (metadata("uid-1"), True),
        (metadata(None, OURS), True),
        (metadata("uid-1", PLAIN), True),
        (metadata(None), False),
        (metadata(None, PLAIN), False),
        (metadata("uid-2"), False),
        (metadata("uid-2", THEIRS), False),
        (metadata("uid-1", THEIRS), False),
        (metadata("uid-2", OURS), True),
    ],
)
def test_whose_a_secret_is(secret: SecretMetadata, *, ours: bool) -> None:
    assert secret.belongs_to("uid-1") is ours


def test_a_projected_secret_has_the_constant_key_set() -> None:
    with pytest.raises(ValueError, match="app-secret") as refused:
        DesiredSecret(OWNER, "s", {k: v for k, v in DATA.items() if k != "app-secret"})
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ValueError, match="other"):
        DesiredSecret(OWNER, "s", {**DATA, "other": "hunter2"})


def test_no_value_of_a_secret_is_part_of_its_text() -> None:
    desired = DesiredSecret(OWNER, "s", DATA)
    assert "hunter2" not in repr(desired)
    assert "aHVudGVyMg" not in repr(desired)


def test_what_others_put_on_a_secret_stays_when_it_is_repaired() -> None:
    observed = SecretMetadata(
        "shop", "s", "u", "7", {"team": "a"}, {"note": "b"}, (PLAIN, {**OURS, "controller": False})
    )
    manifest = DesiredSecret(OWNER, "s", DATA).manifest(observed)["metadata"]
    assert manifest["labels"]["team"] == "a"
    assert manifest["annotations"] == {"note": "b"}
    assert [ref["uid"] for ref in manifest["ownerReferences"]] == ["uid-2", "uid-1"]
    assert manifest["resourceVersion"] == "7"


@given(slug=st.from_regex(SLUG_PATTERN, fullmatch=True))
def test_the_restart_annotation_is_a_valid_name_for_every_slug(slug: str) -> None:
    prefix, name = restart_annotation(slug).split("/")
    assert prefix == "mdb-engine.dev"
    assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", name)


NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("annotation", "created", "version", "needed"),
    [
        (None, "2026-01-01T11:00:00Z", 1, False),
        (None, "2026-01-01T11:00:00Z", 2, True),
        (None, "2026-01-01T13:00:00Z", 2, False),
        ("2-now", "2026-01-01T11:00:00Z", 2, False),
        ("1-now", "2026-01-01T13:00:00Z", 2, True),
        ("3-now", "2026-01-01T11:00:00Z", 2, False),
        ("3-before", "2026-01-01T11:00:00Z", 1, True),
        ("2-before", "2026-01-01T11:00:00Z", 2, True),
        ("broken", "2026-01-01T11:00:00Z", 2, True),
    ],
)
def test_when_a_workload_is_restarted(
    annotation: str | None, created: str, version: int, *, needed: bool
) -> None:
    annotations = {} if annotation is None else {"a": annotation}
    workload = {
        "metadata": {"creationTimestamp": created},
        "spec": {"template": {"metadata": {"annotations": annotations}}},
    }
    assert _needs_restart(workload, "a", _Mark(version, "now"), NOON) is needed


def test_paths_quote_what_stands_in_them() -> None:
    assert SECRETS.path("shop", "a") == "/api/v1/namespaces/shop/secrets/a"
    assert DEPLOYMENTS.path() == "/apis/apps/v1/deployments"
    assert SECRETS.path("../x", "a/b") == "/api/v1/namespaces/..%2Fx/secrets/a%2Fb"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (403, Forbidden),
        (410, Expired),
        (429, KubernetesUnavailable),
        (500, KubernetesUnavailable),
        (504, KubernetesUnavailable),
    ],
)
def test_an_error_inside_a_watch_is_the_operators_own(code: int, kind: type[Exception]) -> None:
    error = stream_error("watch x", {"code": code, "reason": "Why"})
    assert type(error) is kind
    assert error.status == code
    assert "Why" in error.message


def test_only_the_last_own_write_of_a_secret_counts_as_ours() -> None:
    writes = OwnWrites()
    writes.note("shop", "s", "1")
    assert writes.made(metadata(None))
    writes.note("shop", "s", "2")
    assert not writes.made(metadata(None))
    for number in range(5000):
        writes.note("shop", f"s{number}", "1")
    assert len(writes._versions) <= 4096


def test_what_is_seen_during_a_write_is_told_afterwards_unless_it_was_that_write() -> None:
    writes, told = OwnWrites(), list[str]()
    ours = replace(metadata(None), resource_version="7")
    theirs = replace(ours, resource_version="8")
    with writes.writing("shop", "s"):
        for seen in (ours, theirs):
            writes.unless_made(seen, partial(told.append, seen.resource_version))
        assert told == []
        writes.note("shop", "s", "7")
    assert told == ["8"]
    writes.unless_made(ours, lambda: told.append("again"))
    assert told == ["8"]
    with suppress(OSError), writes.writing("shop", "s"):
        writes.unless_made(theirs, lambda: told.append("no answer"))
        raise OSError  # it may have been written or not
    assert told == ["8", "no answer"]


def projected(version: str, made: str = "new", username: str = "shop.v{}") -> dict[str, str]:
    return {
        **dict.fromkeys(SECRET_KEYS, ""),
        "secret-version": version,
        "username": username.format(version),
        "app-secret": f"token-{made}",
        "app-secret-previous": "token-before",
        "session-key": f"key-{made}",
        "session-key-previous": "key-before",
    }


def stored(data: dict[str, str]) -> StoredSecret:
    encoded = {key: value.encode() for key, value in data.items()}
    return StoredSecret(metadata("uid-1", OURS), SECRET_TYPE, immutable=False, data=encoded)


@pytest.mark.parametrize(
    ("there", "behind"),
    [
        (projected("7", "later"), True),
        (projected("7", "later", "shared"), False),
        (projected("3", "later"), False),
        (projected("2", "later"), False),
        (projected("x", "later"), False),
        (projected("", "later"), False),
        (projected("99999999", "later"), False),
        (projected("7"), False),
        (projected("7", "before"), False),
        ({**projected("7", "later"), "username": "shop.v3"}, False),
        ({**projected("7", "later"), "session-key": "key-new"}, False),
        ({**projected("7", "later"), "app-secret": ""}, False),
    ],
)
def test_when_mongodb_is_behind_a_secret(there: dict[str, str], *, behind: bool) -> None:
    assert DesiredSecret(OWNER, "s", projected("3")).is_behind(stored(there)) is behind


def test_when_mongodb_is_behind_a_secret_whose_user_all_apps_share() -> None:
    desired = DesiredSecret(OWNER, "s", projected("3", username="shared"))
    assert desired.is_behind(stored(projected("7", "later", "shared")))
    assert not desired.is_behind(stored(projected("7", "later")))
