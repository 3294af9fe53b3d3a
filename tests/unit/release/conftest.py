"""Makes the release tool importable; it is no package of the workspace."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[3] / "release"))
