"""Runs Argo CD's Lua: scripts that see an object as `obj` and return something.

Argo CD embeds Lua 5.1, opens the base, table and string libraries, and of `os` the date and the
time alone; so does this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lupa.lua51 import LuaRuntime

__all__ = ["run_lua"]

_SANDBOX = """
for _, name in ipairs({"io", "debug", "package", "require", "dofile", "loadfile", "python"}) do
  _G[name] = nil
end
os = {date = os.date, time = os.time}
"""


def run_lua(script: str, obj: Mapping[str, Any]) -> Any:
    """Run a script over an object and return what it returns, as plain data."""
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    lua.execute(_SANDBOX)
    lua.globals()["obj"] = _to_lua(lua, obj)
    return _to_python(lua.execute(script))


def _to_lua(lua: Any, value: Any) -> Any:
    if isinstance(value, Mapping):
        return lua.table_from({key: _to_lua(lua, item) for key, item in value.items()})
    if isinstance(value, list):
        return lua.table_from([_to_lua(lua, item) for item in value])
    return value


def _to_python(value: Any) -> Any:
    if not hasattr(value, "items"):
        return value
    found = {key: _to_python(item) for key, item in value.items()}
    if found and set(found) == set(range(1, len(found) + 1)):
        return [found[number] for number in range(1, len(found) + 1)]
    return found
