"""The newcomer's shell has nothing that the README does not list, and notices what fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import newcomer


@pytest.fixture
def somebody(tmp_path: Path) -> newcomer.Newcomer:
    return newcomer.arrive(tmp_path, {"GREETING": "hello"})


def test_one_shell_runs_all_commands_in_the_checkout(somebody: newcomer.Newcomer) -> None:
    first, second, third = somebody.paste(
        ["PLACE=world", 'echo "$GREETING $PLACE"', "ls README.md"]
    )
    assert (first.output, second.output.strip(), third.output.strip()) == (
        "",
        "hello world",
        "README.md",
    )


@pytest.mark.parametrize("program", ["uv", "kubectl", "helm", "go", "pytest", "devcluster"])
def test_what_the_readme_does_not_list_is_missing(
    somebody: newcomer.Newcomer, program: str
) -> None:
    with pytest.raises(AssertionError, match=rf"{program}: command not found[^$]*exit code 127"):
        somebody.paste([f"{program} --version"])


def test_what_the_readme_lists_is_there(somebody: newcomer.Newcomer) -> None:
    somebody.paste(["python3 -c 'import sys, venv; assert sys.version_info >= (3, 11)'", "make"])
    somebody.paste(["git --version"])


def test_commands_are_found_where_documents_have_them() -> None:
    assert {"make demo", "source .demo/env", "make demo-down", "make"} <= set(
        newcomer.commands_of("README.md")
    )
    said = (
        "Both run\n\nLook around:\n\n  source it\n  kubectl get x\n\nEnough: A=b make demo-down\n"
    )
    assert newcomer.commands_in(said) == ["source it", "kubectl get x", "A=b make demo-down"]
