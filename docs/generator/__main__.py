"""Bring the tables of all documents up to date."""

from __future__ import annotations

import sys

from generator.documents import DOCS, brought_up_to_date
from generator.tables import CHART
from generator.values import chart_defaults

defaults = CHART.parent / "files" / "defaults.yaml"
defaults.write_text(chart_defaults(CHART), encoding="utf-8")

for path in sorted(DOCS.glob("*.md")):
    text = path.read_text(encoding="utf-8")
    fresh = brought_up_to_date(text)
    if fresh != text:
        path.write_text(fresh, encoding="utf-8")
        sys.stdout.write(f"wrote {path.relative_to(DOCS.parent)}\n")
