"""Texts that somebody else wrote, made fit for a line of a log or of a terminal."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """Return a text with everything written out that is not printable.

    A line break would forge a line, an escape code steers a terminal, and a lone surrogate cannot
    be stored at all.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
