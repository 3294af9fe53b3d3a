"""Who may read whom, by table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mdb_engine.models.spec import DataAccess, MdbAppSpec, Reader
from mdb_engine.registry.consent import resolve
from mdb_engine.registry.models.app import AppRecord, AppState, Owner

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def app(slug: str, namespace: str, **access: Any) -> AppRecord:
    return AppRecord(
        slug=slug,
        owner=Owner(namespace, slug, f"uid-{slug}"),
        state=AppState.ACTIVE,
        spec=MdbAppSpec(slug=slug, data_access=DataAccess(**access)).normalised(),
        generation=1,
        incarnation="x",
        claims=frozenset(),
        created_at=NOW,
        updated_at=NOW,
    )


def reader(**access: Any) -> AppRecord:
    return app("bi", "shop", read_scopes=("bi", "hr"), **access)


def readers(*pairs: tuple[str, str | None]) -> dict[str, Any]:
    return {"readers": tuple(Reader(namespace=n, slug=s) for n, s in pairs)}


OPEN, CLOSED = {"cross_app_policy": "Explicit"}, {"cross_app_policy": "DenyAll"}
DELETING, TOMBSTONE = AppState.DELETING, AppState.TOMBSTONE
ALONE = replace(reader(), owner=Owner.standalone("bi"))
TO_ALL = readers(("*", None))

CASES: list[tuple[str, AppRecord, AppRecord | None, str | None]] = [
    ("same namespace", reader(), app("hr", "shop"), None),
    ("readers only add", reader(), app("hr", "shop", **readers(("x", None))), None),
    ("another namespace", reader(), app("hr", "corp"), "NotGranted"),
    ("it names the app", reader(), app("hr", "corp", **readers(("shop", "bi"))), None),
    ("it names the namespace", reader(), app("hr", "corp", **readers(("shop", None))), None),
    ("it names all", reader(), app("hr", "corp", **TO_ALL), None),
    ("it names another slug", reader(), app("hr", "corp", **readers(("*", "x"))), "NotGranted"),
    ("the slug elsewhere", reader(), app("hr", "corp", **readers(("x", "bi"))), "NotGranted"),
    ("no such app", reader(), None, "GrantPending"),
    ("being deleted", reader(), replace(app("hr", "shop"), state=DELETING), "GrantPending"),
    ("a tombstone", reader(), replace(app("hr", "shop"), state=TOMBSTONE), "GrantPending"),
    ("spelt otherwise", app("bi", "s", read_scopes=("bi", "h-r")), app("h_r", "s"), "GrantPending"),
    ("the owner denies all", reader(), app("hr", "shop", **CLOSED, **TO_ALL), "NotGranted"),
    ("the reader denies all", reader(**CLOSED), app("hr", "shop"), "NotGranted"),
    ("both explicit", reader(**OPEN), app("hr", "shop", **OPEN), None),
    ("both standalone", ALONE, replace(app("hr", "x"), owner=Owner.standalone("hr")), None),
    ("standalone, in Kubernetes", ALONE, app("hr", "x"), "NotGranted"),
]


@pytest.mark.parametrize(("case", "who", "owner", "reason"), CASES, ids=[c[0] for c in CASES])
def test_consent(case: str, who: AppRecord, owner: AppRecord | None, reason: str | None) -> None:
    apps = {"bi": who} | ({owner.slug.replace("-", "_"): owner} if owner else {})
    granted, denied = resolve(who, apps)
    wanted = next(scope for scope in who.spec.read_scopes if scope != "bi")
    if reason is None:
        assert (granted, denied) == (("bi", wanted), ())
    else:
        assert granted == ("bi",)
        assert [(scope.slug, scope.reason) for scope in denied] == [(wanted, reason)]
        assert denied[0].message
