"""The Markdown pages of the repository, taken apart: their code, links and headings."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "engine/*.md", "operator/*.md", "examples/*/*.md")
    for path in ROOT.glob(pattern)
)
"""Every page that a person reads, by its path."""

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE
)
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """A block of code; ``where`` names page and line for whoever has to mend it."""

    where: str
    language: str
    code: str


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def snippets(*languages: str) -> list[Snippet]:
    """Return all blocks of code of these languages."""
    return [
        Snippet(
            f"{page}:{text.count(chr(10), 0, fence.start()) + 1}",
            fence["language"],
            textwrap.dedent(fence["code"]),
        )
        for page in PAGES
        for text in [read(page)]
        for fence in _FENCE.finditer(text)
        if fence["language"] in languages
    ]


def without_blocks(page: str) -> str:
    return _FENCE.sub("", read(page))


def inline_code(page: str) -> Iterator[str]:
    for found in _INLINE.finditer(without_blocks(page)):
        yield " ".join(found[1].split())


def links(page: str) -> list[str]:
    return _LINK.findall(without_blocks(page))


def anchors(path: Path) -> set[str]:
    """Return what headings can be linked as, by GitHub's rules."""
    found = set()
    for heading in _HEADING.findall(without_blocks(str(path))):
        plain = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found
