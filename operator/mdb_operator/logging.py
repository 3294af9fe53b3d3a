"""One JSON object per line on standard error, redacted, whoever logged it.

kopf, the MongoDB driver and asyncio use the standard library's logging; they pass through the same
processors, so that a secret in one of *their* messages is caught as well.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from mdb_operator.redaction import redact_value

__all__ = ["configure_logging", "redact_event"]

NOISY = ("aiohttp.access", "asyncio", "kubernetes", "motor", "pymongo", "urllib3")
"""Loggers whose lower levels show every request; whatever our level, they start at WARNING."""


def redact_event(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Redact every field of a log record; runs after tracebacks have become text."""
    return {key: redact_value(value, name=key) for key, value in event.items()}


def configure_logging(level: str = "info", stream: TextIO | None = None) -> None:
    """Send everything that is logged in this process to one stream, as JSON.

    Parameters
    ----------
    level
        The least level: debug, info, warning or error.
    stream
        Where to; standard error by default, so that standard output stays the commands' own.
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
