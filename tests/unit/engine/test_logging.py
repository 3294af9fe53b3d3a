"""The library logs as any library does: by the standard library, and never a local variable."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import pytest

FAILING = """
    import asyncio, logging, sys
    from starlette.testclient import TestClient
    from fastapi import FastAPI
    from pymongo.errors import OperationFailure
    from mdb_engine.authz.authorizer import authorize
    from mdb_engine.fastapi.errors import add_error_handlers

    {configure}

    class Failing:
        async def allows(self, subject, action, resource):
            document = {{"salary": "the-local-of-a-frame"}}
            raise RuntimeError("no answer")

    app = FastAPI()
    add_error_handlers(app)

    @app.get("/driver")
    async def driver():
        document = {{"salary": "the-local-of-a-frame"}}
        raise OperationFailure("it is refused", 2)

    client = TestClient(app, raise_server_exceptions=False)
    assert client.get("/driver").status_code == 500
    try:
        asyncio.run(authorize(Failing(), "anna", "read", "reports"))
    except Exception as error:
        assert type(error).__name__ == "AuthorizerUnavailable", error
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )


UVICORN = (
    "import uvicorn.config, logging.config; "
    "logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)"
)


@pytest.mark.parametrize(
    "configure",
    ["pass", "logging.basicConfig(level='DEBUG')", UVICORN],
    ids=["unconfigured", "basic", "uvicorn"],
)
def test_a_traceback_shows_no_locals_where_rich_is_installed(configure: str) -> None:
    assert importlib.util.find_spec("rich"), "the test is about what happens where it is"
    done = run(FAILING.format(configure=configure))
    shown = done.stdout + done.stderr
    assert "the-local-of-a-frame" not in shown
    assert "500 database_error" in shown
    assert "the authoriser failed" in shown
    assert "Traceback (most recent call last)" in shown
    assert done.stdout == "", "a library does not write to standard output"


def test_the_configuration_of_the_app_rules() -> None:
    configure = """
    import logging.config
    settings = {"version": 1, "loggers": {"mdb_engine": {"level": "CRITICAL"}}}
    logging.config.dictConfig(settings | {"disable_existing_loggers": False})
    """
    done = run(FAILING.format(configure=configure))
    assert done.stdout + done.stderr == ""


def test_the_library_brings_no_logging_of_its_own() -> None:
    done = run(
        """
        import logging, sys
        import mdb_engine, mdb_engine.fastapi.dependencies, mdb_engine.fastapi.app
        assert "structlog" not in sys.modules
        ours = [one for one in logging.root.manager.loggerDict if one.startswith("mdb_engine")]
        assert ours, "it logs nothing at all"
        for name in ("", *ours):
            logger = logging.getLogger(name)
            assert not logger.handlers, name
            assert logger.propagate, name
        assert all(logging.getLogger(name).level == logging.NOTSET for name in ours)
        """
    )
    assert done.stdout == ""
