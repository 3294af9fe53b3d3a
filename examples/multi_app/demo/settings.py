"""The names that the parts of the demo share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]
"""The repository."""

CLUSTER: Final = os.environ.get("DEMO_CLUSTER", "mdb-demo")
"""Its own cluster, so that tests can run beside it."""

DIRECTORY: Final = ROOT / ".demo"
"""What the demo writes for its user's shell."""

REGISTRY: Final = os.environ.get("DEMO_REGISTRY", "")
"""Where images are pushed to, for a cluster into which none can be loaded."""

LABEL: Final = "mdb-demo/made"
"""Of the namespaces that the demo has made, and so may remove, in a cluster of its user's."""

PORT: Final = int(os.environ.get("DEMO_PORT", "8000"))
"""ClickTracker's on this machine; Dashboard has the next."""

SYSTEM: Final = os.environ.get("DEMO_SYSTEM", "mdb-system")
"""The operator's namespace."""

SHOP: Final = os.environ.get("DEMO_SHOP", "shop")
"""The apps' namespace; the default is that in ``k8s/``."""

RELEASE: Final = "mdb-operator"
"""The Helm release, and so the name of the operator's Deployment."""

OPERATOR_IMAGE: Final = f"{REGISTRY or 'localhost'}/mdb-operator:demo"
EXAMPLE_IMAGE: Final = f"{REGISTRY or 'localhost'}/mdb-example:demo"
MONGOD_IMAGE: Final = f"{REGISTRY or 'localhost'}/trial-mongod:demo"

CLICK_TRACKER: Final = f"http://127.0.0.1:{PORT}"
DASHBOARD: Final = f"http://127.0.0.1:{PORT + 1}"

FORWARDS: Final = {"click-tracker": (PORT, 8000), "dashboard": (PORT + 1, 8001)}
"""Services, with the port on this machine and their own."""
