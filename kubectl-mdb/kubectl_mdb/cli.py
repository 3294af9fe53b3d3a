"""``kubectl mdb``: what people do with MdbApps, in words instead of annotations.

It talks to the cluster through ``kubectl`` itself, so it reaches every cluster that kubectl does,
with the same credentials, contexts and proxies, and may do exactly what the person may do.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click
import yaml

from kubectl_mdb.kubectl import Kubectl
from mdb_engine.exceptions import ManifestInvalid
from mdb_engine.models.lenient import read_leniently
from mdb_engine.models.manifest import Manifest, read_json
from mdb_engine.models.mdbapp import (
    ANNOTATION_REVOKE_PREVIOUS,
    ANNOTATION_ROTATE_REQUESTED,
    mdbapp_document,
    mdbapp_name,
)

__all__ = ["main"]

# kubectl reads YAML 1.1, to which these are true and false: a field may be called so.
yaml.SafeDumper.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN")
)

POLL_SECONDS = 1.0
"""How often a waiting command looks at the app."""


Command = TypeVar("Command", bound=Callable[..., Any])


def _where(command: Command) -> Command:
    """Add what says where the app is; as with kubectl, it may stand before or after the verb."""

    def remember(context: click.Context, option: click.Parameter, value: str | None) -> None:
        kubectl: Kubectl = context.obj or Kubectl()
        if value is not None:
            kubectl = replace(kubectl, **{str(option.name): value})
        context.obj = kubectl

    options = (
        (("-n", "--namespace"), "The app's namespace. Default: the context's."),
        (("--context",), "The kubeconfig's context. Default: the current."),
    )
    for names, text in options:
        option = click.option(*names, help=text, expose_value=False, callback=remember)
        command = option(command)
    return command


_operator_namespace = click.option(
    "--operator-namespace", default="mdb-system", show_default=True, help="Where the operator is."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@_where
def main() -> None:
    """Rotate, inspect and convert MdbApps."""


@main.command()
@click.argument("name")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the new version.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds to wait.")
@_where
@click.pass_obj
def rotate(kubectl: Kubectl, name: str, timeout: float, *, wait: bool) -> None:
    """Give the app NAME a new secret; the previous one works on for the overlap."""
    before = _version(kubectl.app(name))
    kubectl.annotate(name, ANNOTATION_ROTATE_REQUESTED)
    if not wait:
        click.echo(f"Requested a rotation of {name}")
        return
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        app = kubectl.app(name)
        if _version(app) > before:
            secret = app["status"]["secret"]
            until = secret.get("previousExpiresAt")
            click.echo(f"{name} has version {secret['version']} of its secret")
            if until:
                click.echo(f"Version {before} works until {until}")
            return
        time.sleep(POLL_SECONDS)
    raise click.ClickException(
        f"{name} still has version {before} after {timeout:g} s; the request stands. "
        f"`kubectl mdb status {name}` says what it waits for."
    )


@main.command("revoke-previous")
@click.argument("name")
@_where
@click.pass_obj
def revoke_previous(kubectl: Kubectl, name: str) -> None:
    """End every earlier version of the secret of app NAME at once (a leaked secret)."""
    kubectl.annotate(name, ANNOTATION_REVOKE_PREVIOUS)
    click.echo(f"Requested that only the current secret of {name} works")


@main.command()
@click.argument("slug")
@click.option("--heir", help="The namespace that may have slug and data from now on.")
@click.option("--delete-data", is_flag=True, help="Drop the data, and free the slug for anyone.")
@_operator_namespace
@_where
@click.pass_obj
def release(
    kubectl: Kubectl, slug: str, heir: str | None, operator_namespace: str, *, delete_data: bool
) -> None:
    """Release the SLUG of an app that was deleted with its data retained.

    Runs in a pod of the operator, so it needs the right to exec there: an administrator's.
    """
    arguments = [slug]
    if heir is not None:
        arguments += ["--heir", heir]
    if delete_data:
        arguments.append("--delete-data")
    click.echo(_in_operator(kubectl, operator_namespace, "release", *arguments), nl=False)


@main.command()
@click.option(
    "-f",
    "--filename",
    type=click.File("r", encoding="utf-8"),
    required=True,
    help="Or - for stdin.",
)
@_operator_namespace
@_where
@click.pass_obj
def plan(kubectl: Kubectl, filename: TextIO, operator_namespace: str) -> None:
    """Say what an MdbApp's manifest would change of collections and indexes; change nothing.

    Runs in a pod of the operator, as `release` does.
    """
    text = filename.read()
    click.echo(_in_operator(kubectl, operator_namespace, "plan", text=text), nl=False)


@main.command()
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--name", help="The MdbApp's name. Default: the slug, with - for _.")
@click.option(
    "--lenient",
    is_flag=True,
    help="Leave out what has no place here, and say on stderr of each what to do.",
)
@_where
@click.pass_obj
def convert(kubectl: Kubectl, manifest: Path, name: str | None, *, lenient: bool) -> None:
    """Print the MdbApp that says the same as a MANIFEST.json."""
    try:
        if lenient:
            data = read_json(manifest)
            if not isinstance(data, dict):
                raise click.ClickException(f"{manifest}: is no object")
            found, left_out = read_leniently(data)
            for one in left_out:
                click.echo(f"left out: {one}", err=True)
            spec = found.to_spec()
        else:
            spec = Manifest.load(manifest).to_spec()
    except ManifestInvalid as error:
        raise click.ClickException(str(error)) from None
    document = mdbapp_document(spec.dump(), name or mdbapp_name(spec.slug), kubectl.namespace)
    click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


@main.command()
@click.argument("name")
@_where
@click.pass_obj
def status(kubectl: Kubectl, name: str) -> None:
    """Show how the app NAME fares, and what to do where something is wrong."""
    app = kubectl.app(name)
    found = app.get("status") or {}
    stale = found.get("observedGeneration") != app["metadata"].get("generation")
    click.echo(f"{name}: slug {app['spec']['slug']}")
    if stale:
        click.echo("The operator has not looked at the latest change yet.")
    for condition in found.get("conditions") or []:
        if condition["type"] == "Stalled":
            continue  # for tools; `Ready` says the same
        sign = {"True": "+", "False": "-"}.get(condition["status"], "?")
        click.echo(f"  {sign} {condition['type']}: {condition['reason']}")
        if condition["status"] != "True" or condition["reason"] != "Provisioned":
            click.echo(f"      {condition['message']}")
    secret = found.get("secret") or {}
    if secret:
        click.echo(
            f"Secret {(found.get('binding') or {}).get('name', '-')}: version "
            f"{secret['version']}, made {secret.get('rotatedAt', '?')}"
        )
        if secret.get("previousExpiresAt"):
            click.echo(f"  the version before works until {secret['previousExpiresAt']}")
    click.echo(f"Reads: {', '.join(found.get('grantedScopes') or []) or 'nothing'}")
    for denied in found.get("deniedScopes") or []:
        click.echo(f"  denied: {denied['slug']} ({denied['reason']})")


def _in_operator(kubectl: Kubectl, namespace: str, *arguments: str, text: str | None = None) -> str:
    """Return what a command of ``mdb-operator`` prints in a pod of it, given a text."""
    pods = kubectl.json(
        *("get", "pods", "--namespace", namespace),
        *("--selector", "app.kubernetes.io/name=mdb-operator"),
        *("--field-selector", "status.phase=Running"),
    )["items"]
    if not pods:
        raise click.ClickException(
            f"no pod of the operator runs in namespace {namespace}; "
            "say where it is with --operator-namespace"
        )
    return kubectl.run(
        *("exec", pods[0]["metadata"]["name"], "--namespace", namespace),
        *("--container", "operator", *(["--stdin"] if text is not None else [])),
        *("--", "mdb-operator", *arguments),
        text=text,
    )


def _version(app: dict[str, Any]) -> int:
    return int(((app.get("status") or {}).get("secret") or {}).get("version") or 0)
