"""The tables of the documentation, each made from the part of the code that decides it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_args

import click
from bench import scaling
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from generator import benchmarks, faults, soak
from generator.rights import COLLECTION_COLUMNS, DATABASE_COLUMNS, rights_rows
from generator.values import chart_values
from kubectl_mdb import cli as kubectl_mdb
from mdb_engine import exceptions
from mdb_engine.config import EngineSettings
from mdb_engine.fastapi.errors import STATUS
from mdb_engine.models.manifest import Manifest
from mdb_engine.scoped import ScopedCollection, limits
from mdb_engine.scoped.limits import DEFAULT_LIMITS
from mdb_engine.scoped.not_offered import (
    COLLECTION_REFUSED,
    CURSOR_REFUSED,
    DATABASE_REFUSED,
    SESSION_REFUSED,
)
from mdb_engine.scoped.options import REFUSED_OPTIONS
from mdb_engine.scoped.rewrite.operators import (
    ACCUMULATORS,
    ARRAY_MODIFIERS,
    EXPRESSIONS,
    FIELD_OPERATORS,
    FILTER_OPERATORS,
    SEARCH_OPERATORS,
    UPDATE_OPERATORS,
    VARIABLES,
    WINDOW_FUNCTIONS,
    Rule,
)
from mdb_engine.scoped.rewrite.stages import CHANGE_STREAM_STAGES, STAGES, UPDATE_STAGES
from mdb_operator import constants
from mdb_operator.cli import main as cli
from mdb_operator.config import ENV_PREFIX, Config
from mdb_operator.crd.render import crd
from mdb_operator.process.metrics import Metrics

__all__ = ["TABLES"]

CHART: Final = Path(__file__).resolve().parents[2] / "charts/mdb-operator/values.yaml"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(heads)]
    lines.append(["---"] * len(lines[0]))
    lines += [[_cell(text) for text in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Return a text as it may stand in a table; Markdown takes a bare <name> for HTML."""
    parts = text.replace("|", "\\|").replace("\n", " ").split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def code(text: object) -> str:
    """Return a text as code; nothing for an empty one."""
    return f"`{text}`" if text not in ("", None) else ""


def first_sentence(text: str) -> str:
    """Return the first sentence of a docstring, in one line."""
    joined = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.])\s", joined.replace("``", "`"))[0]


def attribute_docs(module: ModuleType, holder: str | None = None) -> dict[str, str]:
    """Return the docstrings that stand below the names of a module or of a class in it."""
    body: list[ast.stmt] = ast.parse(inspect.getsource(module)).body
    if holder is not None:
        body = next(n.body for n in body if isinstance(n, ast.ClassDef) and n.name == holder)
    found = {}
    for node, after in pairwise(body):
        match node, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.replace("``", "`").split())
    return found


def mdbapp_spec() -> str:
    """Return every field of an MdbApp's spec, from the CRD."""
    return _schema_table("spec")


def mdbapp_status() -> str:
    """Return every field of an MdbApp's status, from the CRD."""
    return _schema_table("status")


def _schema_table(part: str) -> str:
    root = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part]
    rows = (
        (code(path), _type(schema), code(_value(schema.get("default"))), schema["description"])
        for path, schema in _fields(root, "")
    )
    return table(("field", "type", "default", "meaning"), rows)


def _fields(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, part in schema.get("properties", {}).items():
        path = f"{prefix}{name}"
        yield path, part
        yield from _fields(part, f"{path}.")
        if "items" in part:
            yield from _fields(part["items"], f"{path}[].")


def _type(schema: Mapping[str, Any]) -> str:
    bounds = {
        "minimum": "≥ {}",
        "maximum": "≤ {}",
        "maxLength": "≤ {} characters",
        "maxItems": "≤ {} items",
    }
    if "enum" in schema:
        return " or ".join(map(code, schema["enum"]))
    kind = schema.get("type", "any")
    if kind == "array":
        kind = f"list of {schema['items'].get('type', 'any')}s"
    said = [text.format(schema[key]) for key, text in bounds.items() if key in schema]
    return ", ".join([kind, *said])


def _value(value: Any) -> str:
    if value in (None, PydanticUndefined, {}, [], (), ""):
        return ""
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def names() -> str:
    """Return the labels, annotations and the finalizer."""
    docs = attribute_docs(constants)
    chosen = [
        name
        for name in constants.__dict__
        if name.startswith(("FINALIZER", "LABEL_OWNER", "ANNOTATION_")) and name in docs
    ]
    rows = []
    for name in chosen:
        value = getattr(constants, name)
        if name == "ANNOTATION_RESTART_SUFFIX":
            value = f"{constants.GROUP}/<slug>.{value}"
        kind = name.split("_", maxsplit=1)[0].lower()
        rows.append((code(value), kind, docs[name]))
    return table(("name", "kind", "meaning"), rows)


def operator_settings() -> str:
    """Return the operator's environment variables."""
    rows = (
        (code(f"{ENV_PREFIX}{name.upper()}"), code(_default(field)), field.description or "")
        for name, field in Config.model_fields.items()
    )
    return table(("variable", "default", "meaning"), rows)


def library_settings() -> str:
    """Return the library's environment variables."""
    rows = (
        (code(field.validation_alias), code(_default(field)), field.description or "")
        for field in EngineSettings.model_fields.values()
    )
    return table(("variable", "default", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        return ""
    return f"{value:g}" if isinstance(value, float) else _value(value)


def manifest_fields() -> str:
    """Return the keys of ``manifest.json``."""
    return table(("key", "default", "meaning"), _model_rows(Manifest, ""))


def _model_rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        yield code(f"{prefix}{name}"), code(_default(field)), field.description or ""
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _model_rows(kind, f"{prefix}{name}.")


def chart() -> str:
    """Return the chart's values."""
    rows = ((code(path), code(value), text) for path, value, text in chart_values(CHART))
    return table(("value", "default", "meaning"), rows)


def operator_commands() -> str:
    """Return the commands of ``mdb-operator``."""
    return _commands("mdb-operator", cli.main)


def plugin_commands() -> str:
    """Return the commands of ``kubectl mdb``."""
    return _commands("kubectl mdb", kubectl_mdb.main)


def _commands(program: str, group: click.Group) -> str:
    rows = []
    for name, command in group.commands.items():
        if command.hidden:
            continue
        arguments = [p for p in command.params if isinstance(p, click.Argument)]
        usage = " ".join([program, name, *(p.human_readable_name for p in arguments)])
        options = (p for p in command.params if isinstance(p, click.Option))
        listed = "; ".join(f"`{_option(p)}` {_lower(p.help or '')}" for p in options)
        rows.append((code(usage), first_sentence(command.help or ""), listed))
    return table(("command", "what it does", "options"), rows)


def _option(option: click.Option) -> str:
    name = "/".join([*option.opts, *option.secondary_opts])
    if option.is_flag or not option.show_default:
        return name
    default = option.default
    return f"{name} ({default:g})" if isinstance(default, float) else f"{name} ({default})"


def _lower(text: str) -> str:
    return f"{text[:1].lower()}{text[1:]}".rstrip(".")


def metrics() -> str:
    """Return the operator's own metrics."""
    found: dict[str, tuple[str, Sequence[str], str]] = {}
    registry = Metrics().registry
    # Neither the collectors of a registry nor the labels of a metric are public.
    collectors = {id(c): c for c in getattr(registry, "_names_to_collectors", {}).values()}
    for collector in collectors.values():
        for family in collector.describe():
            if not family.name.startswith("mdb_operator_"):
                continue
            labels = getattr(collector, "_labelnames", ()) or getattr(family, "_labelnames", ())
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found[name] = (family.type, labels, family.documentation)
    rows = (
        (code(name), kind, ", ".join(map(code, labels)), text)
        for name, (kind, labels, text) in sorted(found.items())
    )
    return table(("metric", "type", "labels", "meaning"), rows)


def library_limits() -> str:
    """Return the limits of every operation."""
    docs = attribute_docs(limits, "Limits")
    rows = ((code(name), f"{getattr(DEFAULT_LIMITS, name):,}", docs[name]) for name in docs)
    return table(("limit", "default", "meaning"), rows)


def error_statuses() -> str:
    """Return every error of the library with its HTTP status."""
    rows = sorted(
        (status, code(kind.__name__), code(kind.code), first_sentence(kind.__doc__ or ""))
        for kind, status in STATUS.items()
        if kind is not exceptions.MdbEngineError
    )
    return table(
        ("status", "error", "`error` in the body", "meaning"),
        ((str(status), *rest) for status, *rest in rows),
    )


def operations() -> str:
    """Return the operations of a scoped collection."""
    rows = []
    for name, member in inspect.getmembers(ScopedCollection):
        if name.startswith("_") or not inspect.isfunction(member):
            continue
        call = f"await {name}" if inspect.iscoroutinefunction(member) else name
        rows.append((code(call), first_sentence(member.__doc__ or "")))
    return table(("operation", "what it does"), rows)


def not_offered() -> str:
    """Return what the drivers offer and the library does not."""
    rows = [
        (f"{kind} `{name}`", reason)
        for kind, refused in (
            ("database", DATABASE_REFUSED),
            ("collection", COLLECTION_REFUSED),
            ("cursor", CURSOR_REFUSED),
            ("session", SESSION_REFUSED),
            ("option", REFUSED_OPTIONS),
        )
        for name, reason in refused.items()
    ]
    return table(("of the drivers", "why not"), rows)


_OPERATORS: Final[Mapping[str, Mapping[str, Rule]]] = {
    "pipeline stages": STAGES,
    "stages of `watch`": CHANGE_STREAM_STAGES,
    "expressions": EXPRESSIONS,
    "accumulators": ACCUMULATORS,
    "window functions": WINDOW_FUNCTIONS,
    "system variables": VARIABLES,
    "filters (beside fields)": FILTER_OPERATORS,
    "filters (below a field)": FIELD_OPERATORS,
    "updates": UPDATE_OPERATORS,
    "in `$push` and `$addToSet`": ARRAY_MODIFIERS,
    "stages of an update": UPDATE_STAGES,
    "operators of `$search`": SEARCH_OPERATORS,
}


def allowed_operators() -> str:
    """Return the allow-lists."""
    rows = (
        (place, " ".join(code(name) for name, rule in rules.items() if rule.refused is None))
        for place, rules in _OPERATORS.items()
    )
    return table(("where", "allowed"), rows)


def refused_operators() -> str:
    """Return the operators that are known and refused, with the reason and where it holds."""
    found: dict[tuple[str, str], list[str]] = {}
    for place, rules in _OPERATORS.items():
        by_reason: dict[str, list[str]] = {}
        for name, rule in rules.items():
            if rule.refused is not None:
                by_reason.setdefault(rule.refused, []).append(name)
        for reason, names_ in by_reason.items():
            found.setdefault((" ".join(map(code, names_)), reason), []).append(place)
    rows = ((refused, ", ".join(places), reason) for (refused, reason), places in found.items())
    return table(("refused", "where", "why"), rows)


def collection_rights() -> str:
    """Return what an app's user may do with which collection."""
    rows = rights_rows("commands.json", COLLECTION_COLUMNS)
    return table(["command", *COLLECTION_COLUMNS.values()], rows)


def database_rights() -> str:
    """Return what an app's user may do with databases and the server."""
    rows = rights_rows("databases.json", DATABASE_COLUMNS)
    return table(["command", *DATABASE_COLUMNS.values()], rows)


def benchmarks_mongod() -> str:
    """Return what an operation costs on a real server."""
    head = ["operation", "PyMongo", "ratio", "before", "Motor", "ratio", "before"]
    return table(head, benchmarks.mongod_rows())


def benchmarks_stub() -> str:
    """Return the processor time that an operation costs more on a server of no time."""
    head = ["operation", "PyMongo, µs", "before", "Motor, µs", "before"]
    return table(head, benchmarks.stub_rows())


def benchmarks_concurrency() -> str:
    """Return the ratios by how many operations are under way at once."""
    numbers = [f"{driver}, {n}" for driver in ("PyMongo", "Motor") for n in (1, 16, 64)]
    return table(["operation", *numbers], benchmarks.concurrency_rows())


def benchmarks_startup() -> str:
    """Return what a process costs before it does anything."""
    head = ["", "FastAPI and PyMongo alone", "with the library", "before"]
    return table(head, benchmarks.startup_rows())


def benchmarks_pods() -> str:
    """Return what many pods cost MongoDB."""
    head, *rows = benchmarks.pods_rows()
    return table(head, rows)


def benchmarks_operator() -> str:
    """Return what apps cost the operator, by their number."""
    head, *rows = benchmarks.operator_rows()
    return table(head, rows)


def scaling_operator() -> str:
    """Return what many apps cost the operators, as simulated."""
    heads = [
        "apps", "installations", "all created, one MongoDB", "all created, one MongoDB each",
        "restart: all looked at", "at rest, of a core", "a hub that a tenth reads",
        "memory, at least", "a scrape",
    ]  # fmt: skip
    return table(heads, scaling.operator_rows())


def scaling_mongodb() -> str:
    """Return what many apps and pods cost each MongoDB, as added up."""
    heads = [
        "apps", "databases", "readings of grants a second", "cores for pods at rest",
        "MB a second of slugs", "connections", "MB for pods at rest", "files of WiredTiger",
        "of the largest reply", "GiB in etcd, of all",
    ]  # fmt: skip
    return table(heads, scaling.mongodb_rows())


def scaling_limits() -> str:
    """Return at how many apps a reply is too large."""
    return table(
        ["what is told in one reply", "apps of one database, at most"], scaling.limits_rows()
    )


def scaling_validation() -> str:
    """Return what was simulated beside what was measured."""
    return table(["", "simulated", "measured", ""], scaling.validation_rows())


def scaling_constants() -> str:
    """Return what the simulation takes, with the source of each figure."""
    docs = attribute_docs(scaling, "Constants")
    rows = ((code(name), f"{getattr(scaling.CONSTANTS, name):g}", docs[name]) for name in docs)
    return table(["constant", "value", "unit and source"], rows)


def what_was_tried() -> str:
    """Return what became of each fault."""
    heads = ["fault", "operation", "recovered", "seconds", "losses"]
    return table(heads, faults.fault_rows())


def fuzzing() -> str:
    """Return what was fuzzed."""
    return table(["what", "inputs", "time", "outcome", "found"], faults.fuzz_rows())


def soak_run() -> str:
    """Return what happened in the soak."""
    return table(["", "in the run"], soak.run_rows())


def soak_growth() -> str:
    """Return what grew in the soak, and what did not."""
    heads = ["process", "", "second third", "last third", "at most", "flat"]
    return table(heads, soak.growth_rows())


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "allowed-operators": allowed_operators,
    "benchmarks-concurrency": benchmarks_concurrency,
    "benchmarks-machine": benchmarks.machine_text,
    "benchmarks-mongod": benchmarks_mongod,
    "benchmarks-operator": benchmarks_operator,
    "benchmarks-operator-machine": benchmarks.operator_text,
    "benchmarks-pods": benchmarks_pods,
    "benchmarks-startup": benchmarks_startup,
    "benchmarks-stub": benchmarks_stub,
    "chart-values": chart,
    "collection-rights": collection_rights,
    "database-rights": database_rights,
    "error-statuses": error_statuses,
    "faults": what_was_tried,
    "fuzzing": fuzzing,
    "library-limits": library_limits,
    "library-settings": library_settings,
    "manifest-fields": manifest_fields,
    "mdbapp-spec": mdbapp_spec,
    "mdbapp-status": mdbapp_status,
    "metrics": metrics,
    "names": names,
    "not-offered": not_offered,
    "operations": operations,
    "operator-commands": operator_commands,
    "operator-settings": operator_settings,
    "plugin-commands": plugin_commands,
    "refused-operators": refused_operators,
    "scaling-constants": scaling_constants,
    "scaling-limits": scaling_limits,
    "scaling-mongodb": scaling_mongodb,
    "scaling-operator": scaling_operator,
    "scaling-validation": scaling_validation,
    "soak": soak_run,
    "soak-growth": soak_growth,
    "soak-machine": soak.soak_text,
}
"""By the name that stands in the documents."""
