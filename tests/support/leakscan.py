"""Fail any test during which a secret reached a log record, an output or a failure report.

A test that makes or learns a secret says so: ``leakscan.register(value, "the app's secret")``.
From then on, in this process, neither the value nor a form of it that gives it away (base64,
percent-encoding, bare SHA-256) may occur in

- a log record that any logger accepts: message, arguments, extras, traceback. Records are seen in
  `logging.Logger.handle`, so no handler, formatter or ``propagate = False`` hides one;
- an event that structlog hands to its logger;
- captured output, that of child processes included, and the report of a failed test.

A violation fails the test and names the place, never the secret, which is blotted out of the
report.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from structlog._base import BoundLoggerBase

SHORTEST = 8
"""A shorter value would be found by accident."""

VERBOSE_LOGGERS = ("mdb_engine", "mdb_operator")
"""Our own loggers log everything during tests, so that debug messages are scanned too."""

BLOT = "[registered secret]"

_PLAIN_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


@dataclass(frozen=True, slots=True)
class Secret:
    """A registered value in one of its forms."""

    text: str
    label: str


_secrets: dict[str, Secret] = {}
_logged: list[tuple[str, str]] = []
_reported: set[tuple[str, str]] = set()


def register(value: str | bytes, label: str = "a secret") -> None:
    """Declare a value secret for the rest of this process.

    Parameters
    ----------
    value
        At least 8 characters long.
    label
        What a failure calls it.

    Raises
    ------
    ValueError
        If it is too short to be searched for.
    """
    raw = value.encode() if isinstance(value, str) else value
    if len(raw) < SHORTEST:
        raise ValueError(f"{label} is shorter than {SHORTEST} characters; it cannot be scanned for")
    for text, form in _forms(raw):
        _secrets.setdefault(text, Secret(text, f"{label}{form}"))


def forget_all() -> None:
    """Forget every secret; for the tests of this module."""
    _secrets.clear()


def occurrences(text: str) -> list[str]:
    """Return the labels of the secrets that occur in a text."""
    return sorted({secret.label for secret in _secrets.values() if secret.text in text})


def blotted(text: str) -> str:
    """Return the text without the registered secrets, the longest form first."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, BLOT)
    return text


def _forms(raw: bytes) -> Iterator[tuple[str, str]]:
    plain = raw.decode(errors="ignore")
    if len(plain) >= SHORTEST:
        yield plain, ""
        yield quote(plain, safe=""), " (percent-encoded)"
    yield base64.b64encode(raw).decode().rstrip("="), " (base64)"
    yield base64.urlsafe_b64encode(raw).decode().rstrip("="), " (base64url)"
    yield raw.hex(), " (hexadecimal)"
    yield hashlib.sha256(raw).hexdigest(), " (SHA-256)"


def _record_text(record: logging.LogRecord) -> str:
    extras = {name: v for name, v in vars(record).items() if name not in _PLAIN_ATTRIBUTES}
    parts = [record.getMessage(), repr(record.args), repr(extras) if extras else ""]
    if record.exc_info:
        parts.append("".join(traceback.format_exception(*record.exc_info)))
    parts.append(record.stack_info or "")
    return "\n".join(parts)


def _take(place: str, text: str) -> None:
    """Keep what was logged until the test ends: it may register the secret only afterwards."""
    _logged.append((place, text))


def _scan_logged() -> list[str]:
    """Return what was wrong with all that was logged since the last call."""
    found = [f"{label} occurs in {place}" for place, text in _logged for label in occurrences(text)]
    _logged.clear()
    return list(dict.fromkeys(found))


class _Taps:
    """The places where log records and structlog events are seen, put in and taken out."""

    def __init__(self) -> None:
        self._handle = logging.Logger.handle
        self._process_event = BoundLoggerBase._process_event
        self._levels = {name: logging.getLogger(name).level for name in VERBOSE_LOGGERS}

    def install(self) -> None:
        handle, process_event = self._handle, self._process_event

        def tapped_handle(logger: logging.Logger, record: logging.LogRecord) -> None:
            _take(
                f"a log record of {record.name!r} ({record.pathname}:{record.lineno})",
                _record_text(record),
            )
            handle(logger, record)

        def tapped_event(
            bound: BoundLoggerBase, method: str, event: str | None, fields: dict[str, object]
        ) -> tuple[object, object]:
            processed = process_event(bound, method, event, fields)
            _take(f"a structlog event ({method})", repr(processed))
            return processed

        logging.Logger.handle = tapped_handle  # type: ignore[assignment, method-assign]
        BoundLoggerBase._process_event = tapped_event  # type: ignore[assignment, method-assign]
        for name in VERBOSE_LOGGERS:
            logging.getLogger(name).setLevel(logging.DEBUG)

    def remove(self) -> None:
        logging.Logger.handle = self._handle  # type: ignore[method-assign]
        BoundLoggerBase._process_event = self._process_event  # type: ignore[method-assign]
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)


_TAPS = pytest.StashKey[_Taps]()


def pytest_configure(config: pytest.Config) -> None:
    taps = _Taps()
    taps.install()
    config.stash[_TAPS] = taps


def pytest_unconfigure(config: pytest.Config) -> None:
    taps = config.stash.get(_TAPS, None)
    if taps is not None:
        taps.remove()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _judge(report)
    return report


def _judge(report: pytest.TestReport) -> None:
    """Turn a report into a failure where something leaked, and blot the secrets out of it."""
    found = _scan_logged()
    for title, text in report.sections:
        labels = occurrences(text)
        if title.startswith("Captured log") or (report.nodeid, title) in _reported or not labels:
            continue  # a log record is reported with its place; later reports repeat sections
        _reported.add((report.nodeid, title))
        found += [f"{label} occurs in {title.lower()}" for label in labels]
    report.sections = [(title, blotted(text)) for title, text in report.sections]
    failure = report.longreprtext
    found += [f"{label} occurs in the failure report" for label in occurrences(failure)]
    if not found:
        return
    listing = "\n".join(f"  - {line}" for line in dict.fromkeys(found))
    report.outcome = "failed"
    report.longrepr = blotted(failure) + f"\nSecrets leaked ({report.when}):\n{listing}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Judge what was logged after the last test's report, by threads that outlived it."""
    found = _scan_logged()
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        raise pytest.UsageError("Secrets leaked after the last test: " + "; ".join(found))
