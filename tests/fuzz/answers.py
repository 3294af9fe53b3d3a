"""Fuzz what the examples answer over HTTP, from their own descriptions (OpenAPI), by schemathesis.

Both apps of `examples/multi_app` as processes of their own on a real MongoDB, with a third app's
data beside theirs. An answer of 5xx, one that the description does not have, or a word of the third
app's data ends the run with what was sent.

Run by ``make fuzz-http``; each finding is kept as a case in tests/integration/examples.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support.fault_table import FUZZED_HTTP as FUZZED
from support.mongo import start_server
from support.standalone import standalone_apps

MARK = "of-the-third-app"
"""A word that is in no data but the third app's."""

FOREIGN = {"_id": MARK, "app_id": "third", "user_id": MARK}
"""A document of `third_clicks`, which neither app may see."""

NOT_CHECKED = "unsupported_method"
"""What the checks leave out: `OPTIONS` and `TRACE` are answered by the framework."""


def fuzz(base_url: str, seconds: int, directory: Path) -> int:
    """Send requests to an app for a while; return how many."""
    report = directory / "events.ndjson"
    done = subprocess.run(
        [
            "schemathesis", "run", f"{base_url}/openapi.json",
            "--checks", "all", "--exclude-checks", NOT_CHECKED, "--max-time", str(seconds),
            "--report", "ndjson", "--report-ndjson-path", str(report), "--no-color",
        ],
        cwd=directory,  # where it keeps what it found
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"an answer of {base_url} is wrong; see above")
    text = report.read_text()
    if MARK in text:
        raise SystemExit(f"{base_url} shows what is another app's; see {report}")
    return len(re.findall(r'"status_code":', text))


def main() -> None:
    """Fuzz both apps for some seconds, and see that what is another app's is as it was."""
    seconds, began = int(sys.argv[1]), time.monotonic()
    with tempfile.TemporaryDirectory() as name, start_server(auth=False) as server:
        directory = Path(name)
        with standalone_apps(server, directory) as apps:
            database = server.client[apps.database]
            database["third_clicks"].insert_one(dict(FOREIGN))
            inputs = sum(
                fuzz(str(client.base_url).rstrip("/"), seconds // 2, directory)
                for client in (apps.click_tracker, apps.dashboard)
            )
            assert list(database["third_clicks"].find()) == [FOREIGN]
            assert database["click_tracker_clicks"].distinct("app_id") == ["click_tracker"]
    FUZZED.parent.mkdir(exist_ok=True)
    counts = {"inputs": inputs, "seconds": round(time.monotonic() - began)}
    FUZZED.write_text(json.dumps(counts))


if __name__ == "__main__":
    main()
