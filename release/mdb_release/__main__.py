"""``python -m mdb_release``: build a release or its image, and check what is around it."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from devcluster import build
from devcluster.progress import Progress
from mdb_release import archives, chart, distributions, image, sbom
from mdb_release.audit import audit as find_vulnerabilities
from mdb_release.commands import ROOT, run
from mdb_release.source import CHART, DISTRIBUTIONS, Source, unpack

CRDS = "mdbapps.mdb-engine.dev.yaml"

_base = click.option(
    "--base",
    type=click.Choice(["auto", "registry", "debian"]),
    default="auto",
    show_default=True,
    help="Where the image's base comes from: a registry, by digest, or this machine's Debian.",
)
_out = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("dist"),
    show_default=True,
)


@click.group()
def main() -> None:
    """Make what is published of a commit."""


@main.command("all")
@click.argument("version")
@_out
@_base
@click.option(
    "--image",
    "built",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="An archive of `image`; repeatable, one a platform. [default: build one]",
)
@click.option("--repository", default="", help="The image's, which the chart then names.")
def everything(
    version: str, out: Path, base: str, built: tuple[Path, ...], repository: str
) -> None:
    """Write all of a release to an empty directory, with SHA256SUMS."""
    out.mkdir(parents=True, exist_ok=True)
    if any(out.iterdir()):
        raise click.ClickException(f"{out} is not empty: a release is made of nothing else.")
    with _sources(version) as source:
        found = [one for path in built for one in archives.images_in(path)]
        images = found or [image.build(source, base=base)]
        with tempfile.TemporaryDirectory(prefix=".release-", dir=out) as unfinished:
            write(source, images, repository, Path(unfinished))
            for path in Path(unfinished).iterdir():
                path.rename(out / path.name)
    click.echo((out / "SHA256SUMS").read_text(), nl=False)


@main.command("image")
@click.argument("version")
@_out
@_base
def image_alone(version: str, out: Path, base: str) -> None:
    """Write the image for this machine's platform."""
    out.mkdir(parents=True, exist_ok=True)
    with _sources(version) as source:
        built = image.build(source, base=base)
        name = f"mdb-operator-image-{source.chart_version}-{built.config['architecture']}.oci.tar"
        image.pack([built], source, out / name)
    click.echo(out / name)


@main.command()
def audit() -> None:
    """Ask for known vulnerabilities; with CI=true an unanswered question is a failure, too."""
    try:
        answer = find_vulnerabilities()
    except ConnectionError as error:
        click.echo(f"NOT CHECKED for vulnerabilities: {error}")
        raise SystemExit(1 if os.environ.get("CI") else 0) from None
    if answer.unknown:
        click.echo(f"NOT CHECKED, as {answer.source} does not tell of these versions:")
        click.echo("\n".join(answer.unknown))
    if answer.found:
        lines = "\n".join(answer.found)
        raise click.ClickException(f"Known vulnerabilities, by {answer.source}:\n{lines}")
    click.echo(f"No known vulnerabilities, by {answer.source}.")
    if answer.unknown and os.environ.get("CI"):
        raise SystemExit(1)


@main.command("lint-workflows")
def lint_workflows() -> None:
    """Check GitHub's workflows, and the shell in them."""
    program = build.ensure(build.ACTIONLINT, Progress()) / "actionlint"
    shellcheck = Path(sys.executable).with_name("shellcheck")
    run(program, "-shellcheck", shellcheck, *sorted((ROOT / ".github/workflows").glob("*.yml")))


def write(source: Source, images: list[archives.Image], repository: str, out: Path) -> None:
    """Write the files of a release.

    Parameters
    ----------
    source
        What it is made of.
    images
        The operator's, one a platform.
    repository
        Where they will be.
    out
        An empty directory.
    """
    distributions.build(source, out)
    version = source.chart_version
    digest = image.pack(images, source, out / f"mdb-operator-image-{version}.oci.tar")
    packed = chart.package(source, repository, digest)
    (out / f"{CHART.name}-{version}.tgz").write_bytes(packed)
    artefact = chart.artefact(packed, source)
    (out / f"mdb-operator-chart-{version}.oci.tar").write_bytes(artefact)
    (out / "crds.yaml").write_bytes((source.directory / "crds" / CRDS).read_bytes())
    bills = {name: sbom.of_distribution(name, source) for name in DISTRIBUTIONS}
    for one in images:
        name = f"mdb-operator-image-{one.config['architecture']}"
        bills[name] = sbom.of_image(one, str(one.descriptor["digest"]), source)
    values = archives.files_of(packed)[f"{CHART.name}/values.yaml"]
    bills["mdb-operator-chart"] = sbom.of_chart(packed, values, digest, source)
    for name, bill in bills.items():
        (out / f"{name}-{version}{sbom.SUFFIX}").write_bytes(bill)
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(out.iterdir())
    ]
    (out / "SHA256SUMS").write_text("".join(sums))


@contextmanager
def _sources(version: str) -> Iterator[Source]:
    with tempfile.TemporaryDirectory(prefix="mdb-release-") as directory:
        tree = Path(directory) / "source"
        tree.mkdir()
        yield unpack(version, tree)


if __name__ == "__main__":
    main()
