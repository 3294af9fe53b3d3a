"""The scan is tried on whole runs of pytest, as a scan that finds nothing proves nothing."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from support import leakscan

CLEAN = """
    import logging
    from support import leakscan

    def test_clean():
        leakscan.register("s3cret-value-1", "the token")
        logging.getLogger("mdb_engine.core").info("nothing to see")
        print("nothing to see")
"""

LEAKS = {
    "a message": 'log.info("token is s3cret-value-1")',
    "an argument": 'log.debug("token is %s", "s3cret-value-1")',
    "an extra": 'log.info("x", extra={"token": "s3cret-value-1"})',
    "a traceback": """
        try:
            raise ValueError("bad token s3cret-value-1")
        except ValueError:
            log.exception("it failed")""",
    "base64": "log.info(base64.b64encode(b's3cret-value-1').decode())",
    "a hash": "log.info(hashlib.sha256(b's3cret-value-1').hexdigest())",
    "a logger that does not propagate": """
        quiet = logging.getLogger("mdb_operator.quiet")
        quiet.propagate = False
        quiet.info("s3cret-value-1")""",
    "structlog": "structlog.get_logger().info('event', token='s3cret-value-1')",
    "standard output": 'print("s3cret-value-1")',
    "a child process": 'subprocess.run(["echo", "s3cret-value-1"])',
    "a failure report": 'assert "s3cret-value-1" == "something else"',
}


def test_a_run_without_a_leak_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(CLEAN)

    _run(pytester).assert_outcomes(passed=1)


def test_every_kind_of_leak_fails_its_test_and_shows_no_secret(pytester: pytest.Pytester) -> None:
    head = """
import base64, hashlib, logging, subprocess, structlog
from support import leakscan
log = logging.getLogger("mdb_engine.core")
"""
    tests = "".join(
        f"""
def test_{number}():
    \"\"\"{name}.\"\"\"
    leakscan.register("s3cret-value-1", "the token")
    if True:
        {body.strip()}
"""
        for number, (name, body) in enumerate(LEAKS.items())
    )
    pytester.makepyfile(head + tests)

    result = _run(pytester)

    for number, name in enumerate(LEAKS):
        result.stdout.fnmatch_lines_random([f"FAILED *::test_{number}*"])
        assert f"test_{number} ____" in result.stdout.str(), name
    result.assert_outcomes(failed=len(LEAKS))
    result.stdout.fnmatch_lines_random(
        [
            "*the token occurs in a log record of 'mdb_engine.core' (*",
            "*the token (base64) occurs in a log record*",
            "*the token (SHA-256) occurs in a log record*",
            "*the token occurs in a structlog event*",
            "*the token occurs in captured stdout call*",
            "*the token occurs in the failure report*",
        ]
    )
    shown = result.stdout.str() + result.stderr.str()
    source = [line for line in shown.splitlines() if "s3cret-value-1" in line]
    assert source == []


def test_a_value_too_short_to_search_for_is_refused() -> None:
    with pytest.raises(ValueError, match="the pin is shorter than 8 characters"):
        leakscan.register("1234", "the pin")


def test_text_is_blotted_in_every_form() -> None:
    value = "only-used-by-this-test"
    leakscan.register(value)
    forms = [
        value,
        base64.b64encode(value.encode()).decode(),
        hashlib.sha256(value.encode()).hexdigest(),
    ]

    assert leakscan.occurrences("harmless") == []
    for form in forms:
        assert leakscan.occurrences(form) != []
        assert leakscan.occurrences(leakscan.blotted(f"<{form}>")) == []


def _run(pytester: pytest.Pytester) -> pytest.RunResult:
    """Run a nested pytest in a process of its own: the taps belong to a process."""
    tests = Path(leakscan.__file__).parents[1]
    pytester.makeini(f"[pytest]\npythonpath = {tests}\n")
    pytester.syspathinsert(tests)
    return pytester.runpytest_subprocess("-p", "support.leakscan", "-p", "no:cacheprovider")
