"""The chart, as a package and as an OCI artefact (https://helm.sh/docs/topics/registries/)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from fnmatch import fnmatch

import click
import yaml

from mdb_release import archives
from mdb_release.source import CHART, Source

CONFIG = "application/vnd.cncf.helm.config.v1+json"
CONTENT = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"


def package(source: Source, repository: str, digest: str) -> bytes:
    """Return the chart as ``helm package`` packs it, but for the dates.

    Parameters
    ----------
    source
        The release.
    repository
        Where the image will be; empty leaves the chart's own.
    digest
        The image's: the chart installs that very one, wherever it was copied to.
    """
    directory = source.directory / CHART
    ignored = (directory / ".helmignore").read_text(encoding="utf-8").split()
    files = {
        name: content
        for name, content in archives.files_in(directory).items()
        if not any(fnmatch(name, pattern) for pattern in [*ignored, ".helmignore"])
    }
    version = f'"{source.chart_version}"'
    files["Chart.yaml"] = _set(files["Chart.yaml"], "version", version)
    files["Chart.yaml"] = _set(files["Chart.yaml"], "appVersion", version)
    if repository:
        files["values.yaml"] = _set(files["values.yaml"], "repository", repository, within="image")
    files["values.yaml"] = _set(files["values.yaml"], "digest", digest, within="image")
    named = {f"{directory.name}/{name}": content for name, content in files.items()}
    return archives.zipped(archives.tar(named, source.epoch))


def artefact(packed: bytes, source: Source) -> bytes:
    """Return an OCI layout of a packed chart, as an archive."""
    chart = yaml.safe_load(archives.files_of(packed)[f"{CHART.name}/Chart.yaml"])
    config = archives.document(chart)
    manifest = archives.document(
        {
            "schemaVersion": 2,
            "mediaType": archives.MANIFEST,
            "config": archives.descriptor(config, CONFIG),
            "layers": [archives.descriptor(packed, CONTENT)],
            "annotations": {
                "org.opencontainers.image.title": chart["name"],
                "org.opencontainers.image.description": chart["description"],
                "org.opencontainers.image.version": chart["version"],
                "org.opencontainers.image.revision": source.commit,
                "org.opencontainers.image.licenses": "Apache-2.0",
                "org.opencontainers.image.created": datetime.fromtimestamp(
                    source.epoch, UTC
                ).isoformat(),
            },
        }
    )
    top = archives.descriptor(
        manifest,
        archives.MANIFEST,
        annotations={"org.opencontainers.image.ref.name": chart["version"]},
    )
    return archives.tar(archives.layout([config, packed, manifest], top), source.epoch)


def _set(text: bytes, key: str, value: str, *, within: str = "") -> bytes:
    """Return YAML with one scalar changed and every comment kept."""
    head = rf"(^{within}:\n(?:  .*\n)*?  )" if within else "(^)"
    pattern = rf"{head}{key}: .*$"
    changed, count = re.subn(
        pattern,
        lambda found: f"{found[1]}{key}: {value}",
        text.decode(),
        count=1,
        flags=re.MULTILINE,
    )
    if count != 1:
        raise click.ClickException(f"The chart has no {within}.{key} to set.".replace(" .", " "))
    return changed.encode()
