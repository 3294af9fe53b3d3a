"""Read the chart's values with the comments that explain them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["chart_defaults", "chart_values"]

WHOLE: Final = ("resources", "podSecurityContext", "securityContext")
"""Mappings that are Kubernetes' own, and so one value to us however they are written."""


def chart_values(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield every value by its path, with its default and the comment above it.

    Parameters
    ----------
    path
        The chart's ``values.yaml``: block style, a comment before what it is about.
    """
    text = path.read_text(encoding="utf-8")
    defaults = yaml.safe_load(text)
    comment: list[str] = []
    parents: list[tuple[int, str]] = []
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped:
            comment = []
            continue
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            continue
        indent = len(line) - len(line.lstrip())
        parents = [parent for parent in parents if parent[0] < indent]
        if any(parent[1] in WHOLE for parent in parents):
            continue
        key, _, rest = stripped.partition(":")
        name = ".".join([*(parent[1] for parent in parents), key])
        value = _at(defaults, name)
        if isinstance(value, dict) and not rest.strip():
            parents.append((indent, key))
            if key not in WHOLE:
                continue  # its comment goes before that of its first setting
        yield name, _shown(value), " ".join(comment)
        comment = []


def chart_defaults(path: Path) -> str:
    """Return ``values.yaml`` without its comments, which the chart itself can read.

    It cannot read its own: with ``helm upgrade --reuse-values`` these are another version's.
    """
    return "# Generated from values.yaml by `make docs`; do not edit.\n" + yaml.safe_dump(
        yaml.safe_load(path.read_text(encoding="utf-8")), sort_keys=False, width=100
    )


def _at(values: Any, name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def _shown(value: Any) -> str:
    if value in ("", [], {}):
        return ""
    return value if isinstance(value, str) else json.dumps(value)
