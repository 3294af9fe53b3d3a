from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from support.key_managers import KINDS, serve

from mdb_operator.logging import configure_logging

SECRET = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyMDE"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("debug", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def records(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_line_is_an_object_with_time_level_logger_and_message(stream: io.StringIO) -> None:
    structlog.get_logger("mine").info("Looked", app="dashboard")
    logging.getLogger("kopf.objects").warning("Theirs: %s", "word")
    first, second = records(stream)
    assert first["message"] == "Looked"
    assert first["app"] == "dashboard"
    assert first["level"] == "info"
    assert first["time"].endswith("Z")
    assert second["message"] == "Theirs: word"
    assert second["logger"] == "kopf.objects"


def raise_with(text: str) -> None:
    raise RuntimeError(f"bad key {text}")


def test_no_secret_passes_in_a_message_a_field_a_name_or_a_traceback(stream: io.StringIO) -> None:
    log = structlog.get_logger("mine")
    log.info("token %s", SECRET)
    log.info("field", uri=f"mongodb://app:{SECRET}@db/", app_secret="short-one")
    log.info("nested", manifest={"data": {"password": "short-one"}})
    logging.getLogger("pymongo").error("failed for mongodb://app:short-one@db/mdb")
    local = SECRET
    try:
        raise_with(local)
    except RuntimeError:
        log.exception("It failed", body=f"Bearer {local}")
        logging.getLogger("kopf").exception("Theirs failed")
    assert SECRET not in stream.getvalue()
    assert "short-one" not in stream.getvalue()
    assert sum("RuntimeError" in json.dumps(record) for record in records(stream)) == 2


def test_the_driver_does_not_log_its_commands_even_at_debug(stream: io.StringIO) -> None:
    logging.getLogger("pymongo.command").debug("Command started: insert")
    logging.getLogger("kubernetes.aio.client.rest").debug("response body: %s", "{}")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("kind", KINDS)
async def test_the_clients_of_key_managers_do_not_log_data_keys_even_at_debug(
    stream: io.StringIO, tmp_path: Path, kind: str
) -> None:
    with serve(kind, tmp_path) as service:
        await service.manager().check()
    clients = ("azure", "boto", "google", "hvac", "msal", "urllib3")
    assert [one for one in records(stream) if one["logger"].startswith(clients)] == []


def test_what_the_library_logs_is_in_the_same_json_and_redacted(stream: io.StringIO) -> None:
    library = logging.getLogger("mdb_engine.connection")
    library.info("the engine runs on %s", f"mongodb://app:{SECRET}@db/")
    try:
        raise_with(SECRET)
    except RuntimeError:
        library.exception("it failed", extra={"app_secret": SECRET})
    first, second = records(stream)
    assert first["message"] == "the engine runs on mongodb://[redacted]@db/"
    assert (first["logger"], first["level"]) == ("mdb_engine.connection", "info")
    assert second["message"] == "it failed"
    assert "RuntimeError" in json.dumps(second["exception"])
    assert SECRET not in stream.getvalue()
