"""``mdb-operator``: the operator itself and what an administrator does beside it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Coroutine
from functools import partial
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, TextIO

import click
import yaml

from mdb_engine.constants import MIN_OVERLAP_SECONDS
from mdb_engine.exceptions import MdbEngineError
from mdb_engine.models.spec import MAX_OVERLAP_SECONDS
from mdb_engine.registry.master_key import MasterKeyRotation
from mdb_operator.apps.ownership import Ours, handled_by
from mdb_operator.apps.resource import MdbAppResource
from mdb_operator.cli.audit import event_line, read_events
from mdb_operator.cli.crd import apply_crd
from mdb_operator.cli.plan import plan, read_specs
from mdb_operator.cli.uninstall import is_of_helm, release_all, stop_operator
from mdb_operator.config import Config, load_config
from mdb_operator.exceptions import OperatorError
from mdb_operator.keys.source import SecretKeySource
from mdb_operator.kubernetes.client import KubeClient
from mdb_operator.logging import configure_logging
from mdb_operator.process.context import open_context
from mdb_operator.process.factory import Factory

__all__ = ["main"]

EXIT_CONFIGURATION = 78
"""``EX_CONFIG``: starting again without another setting is useless."""

POLL_SECONDS = 0.5
"""How often a waiting command looks whether the operator is done."""

READ_BACK_SECONDS = 2.0
"""How often it is read back whether a new master key is still there."""

SETTLE_SECONDS = 300.0
"""How long a new master key has to stay before it is used, and an old one unused before it goes.

Tools that put objects back to what they know look every three to five minutes (Argo CD, External
Secrets) if they are not told at once; and an operator that still has the old keyring (a former
leader, one that cannot reach the API server) ends or reads the new one within seconds.
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Operate MdbApps: apps that share one MongoDB.

    Settings are environment variables MDB_OPERATOR_*; the documentation lists them.
    """


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(package_version("mdbapp-operator"))


@main.command()
@click.option("--write", is_flag=True, help="Write it into this checkout instead; for `make crds`.")
def crds(*, write: bool) -> None:
    """Print the CustomResourceDefinition, for `kubectl apply -f -`."""
    from mdb_operator.crd.render import render_crd, write_crds  # noqa: PLC0415 - only needed here

    if not write:
        click.echo(render_crd(), nl=False)
        return
    root = Path.cwd()
    if not (root / "charts" / "mdb-operator").is_dir():
        raise click.UsageError("--write is for the root of a checkout of the project")
    for path in write_crds(root):
        click.echo(f"Wrote {path}")


@main.command()
def run() -> None:
    """Run the operator until it is told to stop."""
    from mdb_operator.handlers.operator import run as run_operator  # noqa: PLC0415 - kopf takes half a second

    _finish(run_operator(_config()))


@main.command("rotate-master-key")
@click.option("--key-id", help="The new key's id. Default: k- and the time.")
@click.option("--resume", is_flag=True, help="Make no new key; wait for an earlier rotation.")
@click.option(
    "--remove-old", is_flag=True, help="Remove the old keys once nothing is wrapped with them."
)
@click.option(
    "--settle",
    default=SETTLE_SECONDS,
    show_default=True,
    help="Seconds that a new key has to stay before it is used, and that nothing has to be wrapped"
    " with an old one before it goes. Longer than whatever writes the keyring needs to notice.",
)
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait for the rest.")
def rotate_master_key(
    *, key_id: str | None, resume: bool, remove_old: bool, settle: float, timeout: float
) -> None:
    """Make a new master key the active one and wait until everything is wrapped with it.

    The new key is added first, and made active after it was read back for a while. Then the running
    operator does the work, online, and continues it if it is restarted; this command watches.
    Interrupting it loses nothing; before the key is active, it leaves one that nobody uses.
    """
    _finish(
        _rotate_master_key(_config(), key_id, settle, timeout, resume=resume, remove_old=remove_old)
    )


@main.command()
@click.argument("slug")
@click.option("--heir", help="The namespace that may have slug and data from now on.")
@click.option("--delete-data", is_flag=True, help="Drop the data, and free the slug for anyone.")
def release(slug: str, heir: str | None, *, delete_data: bool) -> None:
    """Release the SLUG of an app that was deleted with its data retained."""
    if heir is not None and delete_data:
        raise click.UsageError("--heir hands the data on and --delete-data drops it: say one")
    _finish(_release(_config(), slug, heir, delete_data=delete_data))


@main.command("plan")
@click.argument("manifest", type=click.File("r", encoding="utf-8"), default="-")
def plan_command(manifest: TextIO) -> None:
    """Say what a MANIFEST of an MdbApp would change of collections and indexes; write nothing.

    It reads the file, or what is piped into it.
    """
    _finish(_plan(_config(), manifest.read()))


@main.command("adopt-database")
@click.option(
    "--from", "former", help="The installation that it is taken from; the operator's log names it."
)
def adopt_database(*, former: str | None) -> None:
    """Take the database over from another installation, which must not work any more.

    Its MdbApps are taken over as well, also where the database is this installation's already. An
    operator that waits for it goes on by itself. Registrations whose MdbApps are not in this
    cluster count as abandoned from then on.
    """
    _finish(_adopt_database(_config(), former))


@main.command()
@click.option(
    "--from-legacy", is_flag=True, required=True, help="From the earlier version of the library."
)
@click.option("--namespace", help="Where the MdbApps will be. Needed, but for --undo.")
@click.option(
    "--master-key-file",
    help="The old master key, or its .env file; - is stdin. Default: MDB_ENGINE_MASTER_KEY.",
)
@click.option(
    "--overlap-seconds",
    default=86_400,
    show_default=True,
    type=click.IntRange(MIN_OVERLAP_SECONDS, MAX_OVERLAP_SECONDS),
    help="How long the old tokens still work.",
)
@click.option(
    "--leave-out", multiple=True, metavar="SLUG", help="Set an app aside and go on without it."
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option("--undo", is_flag=True, help="Put everything back as it was.")
def migrate(
    namespace: str | None,
    master_key_file: str | None,
    overlap_seconds: int,
    leave_out: tuple[str, ...],
    *,
    from_legacy: bool,  # noqa: ARG001 - says which, as there may be others
    dry_run: bool,
    undo: bool,
) -> None:
    """Bring over the apps that an earlier version of the library registered in the database.

    Prints the MdbApps to be applied, and on stderr what it met. It can be repeated and interrupted
    at any time. End the old programs first: they would write their manifests again.
    """
    if namespace is None and not undo:
        raise click.UsageError("say where the MdbApps will be: --namespace")
    _finish(
        _migrate(
            _config(),
            namespace or "",
            master_key_file,
            overlap_seconds,
            leave_out,
            dry_run=dry_run,
            undo=undo,
        )
    )


async def _migrate(
    config: Config,
    namespace: str,
    key_file: str | None,
    overlap: int,
    leave_out: tuple[str, ...],
    *,
    dry_run: bool,
    undo: bool,
) -> None:
    from mdb_operator.cli.migrate import (  # noqa: PLC0415 - only needed here
        migrate_from_legacy,
        read_old_key,
        undo_migration,
    )

    def tell(line: str) -> None:
        click.echo(line, err=True)

    key = None if undo else read_old_key(key_file)
    async with open_context(config) as context:
        factory = Factory(context)
        await factory.installation_guard().require(claim=not dry_run)
        registry = factory.registry()
        if undo:
            await undo_migration(registry, dry_run=dry_run, tell=tell)
            return
        await context.master_keys.refresh()
        await migrate_from_legacy(
            registry,
            key=key,
            namespace=namespace,
            overlap=overlap,
            leave_out=leave_out,
            dry_run=dry_run,
            show=partial(click.echo, nl=False),
            tell=tell,
        )


@main.command("mongodb-role")
@click.option("--database", default="mdb", show_default=True, help="The database of the apps.")
@click.option(
    "--isolation",
    type=click.Choice(["database", "library"]),
    default="database",
    show_default=True,
    help="As in the chart; with `library` no users are managed.",
)
@click.option(
    "--external",
    is_flag=True,
    help="The further role for apps that log in by X.509, to be made in `admin`.",
)
def mongodb_role(database: str, isolation: str, *, external: bool) -> None:
    """Print the command that makes the operator's role, for an administrator of MongoDB.

    Run it with db.getSiblingDB(DATABASE).runCommand(...), then make a user with that role there.
    """
    from mdb_operator.mongodb.rights import (  # noqa: PLC0415
        create_external_role_command,
        create_role_command,
    )

    command = (
        create_external_role_command()
        if external
        else create_role_command(database, users=isolation == "database")
    )
    click.echo(json.dumps(command, indent=2))


@main.command()
@click.option("--app", "slug", help="Only events of, or about the data of, the app of this slug.")
@click.option("--denied", is_flag=True, help="Only what was refused.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
def audit(slug: str | None, limit: int, *, denied: bool) -> None:
    """Show the newest events of the audit trail."""
    _finish(_audit(_config(), slug, limit, denied=denied))


async def _audit(config: Config, slug: str | None, limit: int, *, denied: bool) -> None:
    async with open_context(config) as context:
        events = read_events(context.database, slug=slug, only_denied=denied, limit=limit)
        lines = [event_line(event) async for event in events]
    if lines:
        click.echo("\n".join(lines))
    else:
        click.echo("Nothing was recorded" + (" as denied" if denied else ""))


@main.command("apply-crd", hidden=True)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def apply_crd_command(file: Path) -> None:
    """Bring the cluster's CRD up to date with a FILE (the chart's pre-upgrade hook)."""
    _finish(_apply_crd(yaml.safe_load(file.read_text(encoding="utf-8"))))


async def _apply_crd(crd: dict[str, Any]) -> None:
    client = await KubeClient.connect()
    try:
        click.echo(await apply_crd(client, crd))
    finally:
        await client.aclose()


@main.command("verify-backup")
@click.option(
    "--keyring",
    required=True,
    help="A file with the keyring's Secret, a directory with its entries, or a key manager's URI.",
)
@click.option(
    "--uri",
    required=True,
    envvar="MDB_OPERATOR_MONGODB_URI",
    help="Where the copy is. Rather by MDB_OPERATOR_MONGODB_URI than here, if it has a password.",
)
@click.option("--database", default="mdb", show_default=True, help="The database of the apps.")
def verify_backup(keyring: str, uri: str, database: str) -> None:
    """Open every sealed secret of a restored copy with a keyring, and write nothing.

    A drill for a backup of MongoDB and of the master key. It needs no cluster; in MongoDB the
    right to read the database is enough.
    """
    from mdb_operator.cli.backup import verify_backup as verify  # noqa: PLC0415 - only needed here

    _finish(verify(keyring, uri, database, click.echo))


@main.command("prepare-uninstall", hidden=True)
@click.option("--deployment", required=True, help="The operator's Deployment, in its namespace.")
@click.option("--timeout", default=120.0, show_default=True, help="Seconds to wait for its pods.")
def prepare_uninstall(deployment: str, timeout: float) -> None:
    """Stop the operator and release its MdbApps (the chart's pre-delete hook)."""
    _finish(_prepare_uninstall(_config(), deployment, timeout))


async def _prepare_uninstall(config: Config, deployment: str, wait_seconds: float) -> None:
    async with open_context(config) as context:
        if not await is_of_helm(context.kube, config.namespace, deployment):
            click.echo("The operator was not installed by Helm, so Helm does not uninstall it")
            return
        await stop_operator(
            context.kube, config.namespace, deployment, click.echo, deadline_seconds=wait_seconds
        )
        factory = Factory(context)
        identity = await factory.installation_guard().identify()

        def is_ours(app: MdbAppResource) -> bool:
            verdict = handled_by(app, config.operator_class, identity, ())
            return isinstance(verdict, Ours) or verdict.release

        count = await release_all(factory.mdbapp_store(), click.echo, is_ours)
    click.echo(f"{count} MdbApps stay, with their Secrets and data; nothing waits for the operator")


async def _rotate_master_key(
    config: Config,
    key_id: str | None,
    settle: float,
    wait_seconds: float,
    *,
    resume: bool,
    remove_old: bool,
) -> None:
    async with open_context(config) as context:
        factory = Factory(context)
        await factory.installation_guard().require(claim=False)
        # A key manager elsewhere is rotated there: then there is only the re-wrapping to wait for.
        source = factory.master_key_secret() if remove_old or not resume else None
        if source is not None and not resume:
            await _use_new_key(source, key_id, settle)
        keyring = await source.load() if source is not None else None
        await context.master_keys.refresh()
        active = await context.master_keys.encryption.active_key_id()
        click.echo(f"Active master key: {active}")
        rotation = factory.registry().master_key
        await _wait_wrapped(rotation, wait_seconds)
        click.echo(f"Everything is wrapped with {active}")
        if remove_old and source is not None and keyring is not None:
            # Whoever still has the old keyring would wrap with a key that nobody has any more.
            writers = max(settle, 2 * config.master_key_reload_seconds)
            click.echo(f"The old keys go once nothing is wrapped with them for {writers:g} s")
            await _wait_wrapped(rotation, wait_seconds + writers, quiet=writers)
            removed = await source.remove_inactive(keyring)
            click.echo(f"Removed: {', '.join(removed) or 'nothing'}")


async def _use_new_key(source: SecretKeySource, key_id: str | None, settle: float) -> None:
    """Add a master key, and make it active once it has stayed for some seconds."""
    key_id, keyring = await source.add_key(key_id)
    click.echo(f"Added {key_id}; it is made active once it has stayed for {settle:g} s")
    end = time.monotonic() + settle
    while (left := end - time.monotonic()) > 0:
        await asyncio.sleep(min(READ_BACK_SECONDS, left))
        await source.require_kept(keyring)
    await source.activate(key_id, keyring)


async def _wait_wrapped(
    rotation: MasterKeyRotation, wait_seconds: float, quiet: float = 0.0
) -> None:
    """Wait until nothing is wrapped with another key than the active one, and that for a while."""
    shown, since = -1, time.monotonic()
    try:
        async with asyncio.timeout(wait_seconds):
            while (pending := await rotation.pending()) or time.monotonic() - since < quiet:
                if pending:
                    since = time.monotonic()
                    if pending != shown:
                        click.echo(f"Still wrapped with another key: {pending} apps")
                shown = pending
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise OperatorError(
            f"after {wait_seconds:g} s {shown} apps are still wrapped with another key. See the"
            " operator's log; then run `mdb-operator rotate-master-key --resume`."
        ) from None


async def _plan(config: Config, text: str) -> None:
    specs = read_specs(text)
    async with open_context(config) as context:
        registry = Factory(context).registry()
        for spec in specs:
            click.echo("\n".join(await plan(registry, spec)))


async def _adopt_database(config: Config, former: str | None) -> None:
    async with open_context(config) as context:
        other = await Factory(context).installation_guard().adopt(former)
    name = repr(config.mongodb_database)
    if other is None:
        click.echo(f"The database {name} is this installation's")
    else:
        click.echo(f"Took the database {name} over from {other}")


async def _release(config: Config, slug: str, heir: str | None, *, delete_data: bool) -> None:
    async with open_context(config) as context:
        factory = Factory(context)
        await factory.installation_guard().require(claim=False)
        await factory.registry().release(slug, heir=heir, delete_data=delete_data)
    click.echo(f"Released {slug}")


def _config() -> Config:
    try:
        config = load_config()
    except OperatorError as error:
        click.echo(f"mdb-operator: {error}", err=True)
        sys.exit(EXIT_CONFIGURATION)
    configure_logging(config.log_level)
    return config


def _finish(work: Coroutine[Any, Any, None]) -> None:
    """Run a command to its end; a mistake that has a name becomes one line, not a traceback."""
    try:
        asyncio.run(work)
    except (OperatorError, MdbEngineError) as error:
        click.echo(f"mdb-operator: {error}", err=True)
        sys.exit(EXIT_CONFIGURATION if error.code == "configuration_invalid" else 1)
