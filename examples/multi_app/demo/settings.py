"""The names that the parts of the demo share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
"""The repository."""

CLUSTER: Final = "mdb-demo"
"""Its own cluster, so that tests can run beside it."""

SYSTEM: Final = "mdb-system"
"""The operator's namespace."""

SHOP: Final = "shop"
"""The apps' namespace, as in ``k8s/``."""

RELEASE: Final = "mdb-operator"
"""The Helm release, and so the name of the operator's Deployment."""

OPERATOR_IMAGE: Final = ("localhost/mdb-operator", "demo")
EXAMPLE_IMAGE: Final = "localhost/mdb-example:demo"
MONGOD_IMAGE: Final = "localhost/trial-mongod:demo"

CLICK_TRACKER: Final = "http://127.0.0.1:8000"
DASHBOARD: Final = "http://127.0.0.1:8001"
FORWARDS: Final = {"click-tracker": 8000, "dashboard": 8001}
"""Services and their ports, the same on this machine."""
