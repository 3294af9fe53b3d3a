"""Three apps to test the scope with: ``shop`` asks, ``stock`` has granted, ``hr`` has not."""

from __future__ import annotations

from mdb_engine.access.granted import GrantedAccess, NameIndex
from mdb_engine.access.model import Grant, Target
from mdb_engine.scoped.limits import Limits

LIMITS = Limits()


def grant(slug: str, reads: set[str], collections: set[str]) -> Grant:
    return Grant(
        slug=slug,
        verifiers=(),
        read_scopes=frozenset(reads),
        write_scope=slug,
        collections=frozenset(collections),
        epoch=1,
    )


GRANTS = {
    "shop": grant("shop", {"shop", "stock"}, {"orders", "clicks", "copies"}),
    "stock": grant("stock", {"stock"}, {"items", "moves"}),
    "hr": grant("hr", {"hr"}, {"people"}),
}


def access(slug: str = "shop", *, read_only: bool = False) -> GrantedAccess:
    return GrantedAccess(slug, NameIndex(GRANTS), read_only=read_only)


ORDERS = Target(physical="shop_orders", owner="shop", writable=True)
ITEMS = Target(physical="stock_items", owner="stock", writable=False)
