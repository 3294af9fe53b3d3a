"""Bring the cluster's CRD up to date: what the chart's hook runs before an upgrade.

A CRD is shared by all installations of a cluster, and MdbApps use the fields of the newest. So an
older version never replaces a newer one, whoever brings it; a rollback of the chart runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mdb_operator.constants import ANNOTATION_CRD_HASH, ANNOTATION_CRD_VERSION
from mdb_operator.exceptions import Conflict
from mdb_operator.kubernetes.client import KubeClient, metadata_of
from mdb_operator.kubernetes.resources import CRDS

__all__ = ["apply_crd"]

ATTEMPTS = 5
"""How often a race with another writer, the API server's own controllers above all, is run."""


async def apply_crd(client: KubeClient, crd: Mapping[str, Any]) -> str:
    """Replace the CRD, unless the cluster has the same or a newer one; return what was done.

    Raises
    ------
    KubernetesError
        If the API server refuses.
    """
    name = metadata_of(crd)["name"]
    wanted = metadata_of(crd)["annotations"]
    for attempts_left in reversed(range(ATTEMPTS)):
        there = await client.get(CRDS, None, name)
        metadata = metadata_of(there)
        found = metadata.get("annotations") or {}
        version = found.get(ANNOTATION_CRD_VERSION, "0")
        if _number(wanted[ANNOTATION_CRD_VERSION]) < _number(version):
            return f"The CRD is of {version}, which is newer: nothing was written"
        if found.get(ANNOTATION_CRD_HASH) == wanted[ANNOTATION_CRD_HASH]:
            return "The CRD is up to date"
        labels = {**(metadata.get("labels") or {}), **(metadata_of(crd).get("labels") or {})}
        there["metadata"] = {**metadata, "labels": labels, "annotations": {**found, **wanted}}
        there["spec"] = {"conversion": there["spec"].get("conversion"), **crd["spec"]}
        try:
            await client.replace(CRDS, None, name, there)
        except Conflict:
            if not attempts_left:
                raise
        else:
            return f"The CRD is of {wanted[ANNOTATION_CRD_VERSION]} now"
    raise AssertionError  # the last attempt returned or raised


def _number(version: str) -> tuple[int, ...]:
    """Return a version to compare, without what follows its three numbers."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0])[:3])
