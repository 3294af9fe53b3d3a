"""A container runtime for a root that lacks a capability: runc, asked for no more than there is.

A privileged container asks for every capability, and runc fails where this machine's root lacks
one (CAP_SYS_RESOURCE on some virtual machines). This takes out of the specification what cannot
be had, and hands over to runc. It runs for every container and command in one, so it imports
nothing but what it needs.
"""

import json
import os
import sys

NAMES = {24: "CAP_SYS_RESOURCE"}
"""The capabilities by number that a virtual machine's root is known to lack."""


def main() -> None:
    """Rewrite the specification that the arguments name, if they name one, and become runc."""
    arguments = sys.argv[1:]
    if "create" in arguments and "--bundle" in arguments:
        path = os.path.join(arguments[arguments.index("--bundle") + 1], "config.json")  # noqa: PTH118
        _rewrite(path, of_container=True)
    elif "exec" in arguments and "--process" in arguments:
        _rewrite(arguments[arguments.index("--process") + 1], of_container=False)
    os.execvp("runc", ["runc", *arguments])  # noqa: S606


def missing() -> set[str]:
    """Return the known capabilities that this process can never have."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        line = next(line for line in status if line.startswith("CapBnd:"))
    bounding = int(line.split()[1], 16)
    return {name for number, name in NAMES.items() if not bounding >> number & 1}


def fitted(process: dict, lacking: set[str]) -> None:  # type: ignore[type-arg]
    """Take out of a process's specification what needs a capability that is not there."""
    for names in process.get("capabilities", {}).values():
        names[:] = [name for name in names if name not in lacking]
    if "CAP_SYS_RESOURCE" in lacking:
        process.pop("oomScoreAdj", None)
        process.pop("rlimits", None)


def _rewrite(path: str, *, of_container: bool) -> None:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123
        content = json.load(file)
    fitted(content["process"] if of_container else content, missing())
    with open(path, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump(content, file)


if __name__ == "__main__":
    main()
