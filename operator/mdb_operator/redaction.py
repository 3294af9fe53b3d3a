"""Keeps secrets out of everything that leaves the process as text: logs, events, conditions.

The rule of the code is never to put a secret into a message. This is the second line: it looks at
field names and at shapes, because text also comes from drivers and servers that know no such rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["REDACTED", "redact", "redact_value"]

REDACTED = "[redacted]"
"""What stands where a secret stood."""

MAX_DEPTH = 8
"""Deeper structures are not walked but dropped: a log line is no place for them."""

_SENSITIVE_NAME = re.compile(
    r"(?i)(?:^|[_\-.])(?:"
    r"password|passwd|pwd|token|secret|app_?secret|app-secret(?:-previous)?|session-?key(?:-previous)?"
    r"|authorization|cookie|credentials?|master_?key|private_?key|dek|kek|uri|data|string_?data"
    r")$"
)

_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # user:password@ in any URI; greedy up to the last @ because drivers accept unescaped ones.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.\-]{1,20}://)[^\s/@\"']*:[^\s\"']*@"), rf"\1{REDACTED}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=\-]{8,}"), rf"\1 {REDACTED}"),
    (
        re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL),
        REDACTED,
    ),
    # 256 bits in hexadecimal: a key, a digest of one, or near enough.
    (re.compile(r"(?i)(?<![0-9a-f])[0-9a-f]{64,}(?![0-9a-f])"), REDACTED),
)

_LONG_WORD = re.compile(r"[A-Za-z0-9+/_\-]{40,}={0,2}")
"""Long enough for 240 bits in base64 or base64url."""


def redact(text: str) -> str:
    """Return the text without anything that looks like a credential, a key or its digest."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return _LONG_WORD.sub(_unless_readable, text)


def _unless_readable(found: re.Match[str]) -> str:
    """Keep a long name or path: those are of one case in Kubernetes, and no key is."""
    word = found.group()
    return REDACTED if word.lower() != word != word.upper() else word


def redact_value(value: Any, *, name: str = "", depth: int = 0) -> Any:
    """Return the value with every string redacted, and whole values of sensitive names.

    Parameters
    ----------
    value
        Anything that may stand in a log record.
    name
        The field that holds it; one that says *password* hides its value whatever its shape.
    depth
        How deep in the record it stands.
    """
    if name and _SENSITIVE_NAME.search(name) and not isinstance(value, bool | int | float | None):
        return REDACTED
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return REDACTED
    if depth >= MAX_DEPTH:
        return "[too deep]"
    if isinstance(value, Mapping):
        return {
            redact(str(key)): redact_value(item, name=str(key), depth=depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item, depth=depth + 1) for item in value]
    return redact(str(value))
