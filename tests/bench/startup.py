"""What an app's process costs before it does anything: time to import, modules, memory.

The same app is written twice, with the library and without; each start is a new process, in turn.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from support.binding import MountedSecret

from bench.data import MANIFEST, SLUG, binding
from bench.stub import stub_server

__all__ = ["measure_startup"]

PLAIN: Final = """
import os
from fastapi import FastAPI
from pymongo import AsyncMongoClient
client = AsyncMongoClient(os.environ["URI"])
app = FastAPI()
async def start():
    await client.admin.command("ping")
"""

LIBRARY: Final = """
import json, os
from fastapi import FastAPI
from mdb_engine import Manifest, MongoDBEngine
engine = MongoDBEngine.from_environment()
app = engine.create_app("shop", Manifest.model_validate(json.loads(os.environ["MANIFEST"])))
async def start():
    await engine.initialize()
"""

MEASURED: Final = """
import asyncio, json, sys, time
began = time.perf_counter()
import app
took = time.perf_counter() - began
modules = sorted(sys.modules)
async def idle():
    await app.start()
    await asyncio.sleep(0.2)
    status = open("/proc/self/status").read()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024
print(json.dumps({"seconds": took, "modules": modules, "megabytes": asyncio.run(idle())}))
import os
os._exit(0)
"""


def measure_startup(rounds: int) -> Mapping[str, Any]:
    """Return medians of both apps: milliseconds to import, modules, megabytes when idle."""
    found: dict[str, list[Any]] = {"plain": [], "library": []}
    with stub_server() as uri, tempfile.TemporaryDirectory() as root:
        MountedSecret(Path(root) / "bindings" / SLUG, binding(uri))
        for name, text in (("plain", PLAIN), ("library", LIBRARY)):
            (Path(root) / name).mkdir()
            (Path(root) / name / "app.py").write_text(text)
        given = {
            **os.environ,
            "URI": uri,
            "SERVICE_BINDING_ROOT": str(Path(root) / "bindings"),
            "MANIFEST": json.dumps(MANIFEST),
        }
        for number in range(rounds + 1):
            for name, measured in found.items():
                seen = subprocess.run(
                    [sys.executable, "-c", MEASURED],
                    cwd=Path(root) / name,
                    env={**given, "PYTHONPATH": os.pathsep.join(("", *sys.path))},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                if number:  # the first writes the byte code
                    measured.append(json.loads(seen.stdout))
    return {
        name: {
            "import_ms": round(statistics.median(one["seconds"] for one in runs) * 1000, 1),
            "modules": len(runs[0]["modules"]),
            "idle_mb": round(statistics.median(one["megabytes"] for one in runs), 1),
        }
        for name, runs in found.items()
    }
