"""Every command of ours that a document names exists, with the options that it is given."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from unit.docs.pages import PAGES, ROOT, inline_code, snippets

from devcluster.cli import cli as devcluster
from kubectl_mdb import cli as kubectl_mdb
from mdb_operator.cli import main as cli

PROGRAMS = {"mdb-operator": cli.main, "kubectl mdb": kubectl_mdb.main, "devcluster": devcluster}

# Where a command may begin in a line of shell, besides its start.
_BEGIN = r"(?:^\s*|-- |\$\(|\$ |\| |\buv run |\bdo )"
_COMMAND = re.compile(
    rf"{_BEGIN}(?P<program>{'|'.join(PROGRAMS)}|make)(?P<rest> [^\n|;&`()]*|$)", re.MULTILINE
)


def commands() -> Iterator[tuple[str, str, list[str]]]:
    """Yield where a command stands, its program and its arguments."""
    texts = [(found.where, found.code) for found in snippets("sh", "console")]
    texts += [(page, code) for page in PAGES for code in inline_code(page)]
    for where, text in texts:
        for found in _COMMAND.finditer(text.replace("\\\n", " ")):
            yield where, found["program"], shlex.split(found["rest"], comments=True)


def fault(command: click.Command, arguments: list[str]) -> str | None:
    """Return what is wrong with a command's arguments, without running it."""
    context = click.Context(command)
    try:
        _, rest, _ = command.make_parser(context).parse_args(list(arguments))
        if not isinstance(command, click.Group) or not rest or rest[0].isupper():
            return None  # the last of its commands, the program alone, or a placeholder
        _, found, left = command.resolve_command(context, rest)
    except click.ClickException as error:
        return error.format_message()
    return None if found is None else fault(found, left)


def test_commands_are_found_in_the_documents() -> None:
    found = {(program, *arguments[:1]) for _, program, arguments in commands()}
    assert {
        ("make", "demo"),
        ("mdb-operator", "rotate-master-key"),
        ("kubectl mdb", "release"),
        ("devcluster", "up"),
    } <= found


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_that_is_named_exists(program: str) -> None:
    wrong = [
        f"{where}: {program} {shlex.join(arguments)}: {message}"
        for where, name, arguments in commands()
        if name == program and (message := fault(PROGRAMS[program], arguments))
    ]
    assert wrong == []


def test_an_unknown_command_or_option_is_found() -> None:
    assert fault(cli.main, ["rotate-key"])
    assert fault(kubectl_mdb.main, ["rotate", "orders", "--now"])
    assert fault(kubectl_mdb.main, ["rotate", "orders"]) is None


def test_every_target_of_make_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    wrong = [
        f"{where}: make {argument}"
        for where, program, arguments in commands()
        if program == "make"
        for argument in arguments
        if re.fullmatch(r"[a-z][a-z-]*", argument) and argument not in targets
    ]
    assert wrong == []
