"""One JSON object per line on standard error, redacted, whoever logged it.

kopf, the MongoDB driver and asyncio use the standard library's logging; they pass through the same
processors, so that a secret in one of *their* messages is caught as well.

The rule of the code is never to put a secret into a message. Redaction is the second line, for
everything that leaves the process as text (logs, events, conditions): it looks at field names and
at shapes, because text also comes from drivers and servers that know no such rule.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TextIO

import structlog

__all__ = ["REDACTED", "configure_logging", "redact", "redact_event", "redact_value"]

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

NOISY = (
    *("aiohttp.access", "asyncio", "kubernetes", "motor", "pymongo", "urllib3"),
    *("azure", "boto3", "botocore", "google", "hvac", "msal"),
)
"""Loggers whose lower levels show every request, with a data key in it where it is one to a key
manager; whatever our level, they start at WARNING."""


def redact_event(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Redact every field of a log record; runs after tracebacks have become text."""
    return {key: redact_value(value, name=key) for key, value in event.items()}


def configure_logging(level: str = "info", stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to one stream, as JSON.

    By default it is standard error, so that standard output stays the commands' own.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Without local variables: they hold what nobody chose to log.
                structlog.processors.ExceptionRenderer(
                    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
                ),
                structlog.processors.EventRenamer("message"),
                redact_event,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


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

    A name that says *password* hides its value whatever its shape.
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
