"""What can be copied from the documents is valid."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess

import pytest
import yaml
from unit.docs.pages import Snippet, snippets

from mdb_engine.models.manifest import Manifest
from mdb_engine.models.spec import MdbAppSpec
from mdb_operator.constants import API_VERSION, KIND


def cases(*languages: str) -> pytest.MarkDecorator:
    found = snippets(*languages)
    assert found
    return pytest.mark.parametrize("snippet", found, ids=[one.where for one in found])


@cases("yaml")
def test_yaml_is_valid_and_every_mdbapp_fits_the_model(snippet: Snippet) -> None:
    for document in yaml.safe_load_all(snippet.code):
        if isinstance(document, dict) and document.get("kind") == KIND:
            assert document["apiVersion"] == API_VERSION
            MdbAppSpec.parse(document["spec"])


def test_mdbapps_are_found_in_the_documents() -> None:
    assert sum(f"kind: {KIND}" in one.code for one in snippets("yaml")) >= 4


@cases("json")
def test_json_is_valid_and_every_manifest_fits_the_model(snippet: Snippet) -> None:
    document = json.loads(snippet.code)
    if "slug" in document:
        Manifest.load(document)


@cases("python")
def test_python_compiles_and_its_imports_exist(snippet: Snippet) -> None:
    tree = ast.parse(snippet.code, snippet.where)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


@cases("sh")
def test_shell_is_valid(snippet: Snippet) -> None:
    outcome = subprocess.run(
        ["bash", "-n"], input=snippet.code, capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
