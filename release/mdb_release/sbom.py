"""Bills of materials in CycloneDX (https://cyclonedx.org/specification/overview/), as JSON.

Of a distribution: all that it needs with every extra but that for tests, in the locked versions
that the tests ran with, as uv exports them. Of the image: what is in it. Of the chart: the images
that it starts.
"""

from __future__ import annotations

import email
import json
import uuid
from datetime import UTC, datetime
from email.message import Message
from pathlib import Path
from typing import Any

import yaml
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from mdb_release.archives import Image, digest_of
from mdb_release.commands import run, uv
from mdb_release.source import CHART, DISTRIBUTIONS, Source

SUFFIX = ".cdx.json"

_OURS = "Apache-2.0"


def of_distribution(name: str, source: Source) -> bytes:
    """Return what a distribution needs."""
    exported = run(
        *(uv(), "export", "--quiet", "--preview-features", "sbom-export", "--frozen", "--no-dev"),
        *("--all-extras", "--package", name, "--format", "cyclonedx1.5"),
        *(("--no-extra", "testing") if name == "mdbapp-engine" else ()),
        directory=source.directory,
    )
    bom: dict[str, Any] = json.loads(exported)
    bom["serialNumber"] = f"urn:uuid:{_serial(name, source)}"
    bom["metadata"]["timestamp"] = _moment(source).isoformat()
    root = bom["metadata"]["component"]
    root["licenses"] = [{"expression": _OURS}]
    for component in [root, *bom["components"]]:
        if component["name"] in DISTRIBUTIONS:
            component["version"] = source.version
            component["purl"] = f"pkg:pypi/{component['name']}@{source.version}"
    return _written(bom)


def of_image(image: Image, digest: str, source: Source) -> bytes:
    """Return what is in an image: its Python distributions and its Debian packages."""
    architecture = image.config["architecture"]
    components = []
    system: dict[str, str] = {}
    for entry, content in image.entries():
        path = Path(entry.name)
        if path.name == "METADATA" and path.parent.suffix == ".dist-info":
            components.append(_distribution(email.message_from_bytes(content)))
        elif path.parent.name == "status.d":
            components.append(_debian(email.message_from_bytes(content)))
        elif path.name == "os-release":
            lines = content.decode().splitlines()
            system = dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)
    system_component = Component(
        name=system["ID"],
        version=system["VERSION_ID"],
        type=ComponentType.OPERATING_SYSTEM,
        bom_ref="os",
    )
    name = f"mdb-operator-image-{architecture}"
    component = _container("mdb-operator", source.chart_version, digest)
    return _output([*components, system_component], component, _serial(name, source), source)


def of_chart(packed: bytes, values: bytes, digest: str, source: Source) -> bytes:
    """Return what a chart starts.

    Parameters
    ----------
    packed
        The chart's package.
    values
        Its values.
    digest
        The operator's image's.
    source
        The release.
    """
    tree = yaml.safe_load(values)
    trial, _, tag = tree["mongodb"]["trial"]["image"].rpartition(":")
    parts = [
        _container("mdb-operator", source.chart_version, digest),
        Component(
            name=trial,
            version=tag,
            type=ComponentType.CONTAINER,
            description="Only with mongodb.trial.enabled",
            bom_ref=f"{trial}:{tag}",
        ),
    ]
    chart = Component(
        name=CHART.name,
        version=source.chart_version,
        type=ComponentType.APPLICATION,
        description="Helm chart",
        licenses=[LicenseExpression(_OURS)],
        hashes=[_hash(digest_of(packed))],
        purl=PackageURL("helm", None, CHART.name, source.chart_version),
        bom_ref=f"helm:{CHART.name}",
    )
    return _output(parts, chart, _serial("mdb-operator-chart", source), source)


def _distribution(metadata: Message) -> Component:
    name, version = str(metadata["Name"]), str(metadata["Version"])
    expression = metadata["License-Expression"]
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        licenses=[LicenseExpression(expression)] if expression else [],
        purl=PackageURL("pypi", None, name.lower().replace("_", "-"), version),
        bom_ref=f"pypi:{name}@{version}",
    )


def _debian(status: Message) -> Component:
    name, version = str(status["Package"]), str(status["Version"])
    qualifiers = {"arch": str(status["Architecture"]), "distro": "debian"}
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=PackageURL("deb", "debian", name, version, qualifiers),
        bom_ref=f"deb:{name}@{version}",
    )


def _container(name: str, version: str, digest: str) -> Component:
    return Component(
        name=name,
        version=version,
        type=ComponentType.CONTAINER,
        licenses=[LicenseExpression(_OURS)],
        hashes=[_hash(digest)],
        purl=PackageURL("oci", None, name, digest, {"tag": version}),
        bom_ref=f"oci:{name}",
    )


def _hash(digest: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))


def _output(
    components: list[Component], root: Component, serial: uuid.UUID, source: Source
) -> bytes:
    metadata = BomMetaData(component=root, timestamp=_moment(source))
    bom = Bom(components=components, metadata=metadata, serial_number=serial)
    bom.register_dependency(root, components)
    return _written(json.loads(JsonV1Dot6(bom).output_as_string()))


def _serial(name: str, source: Source) -> uuid.UUID:
    """Return a name of the document that is the same whenever it is made."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{name} {source.version} {source.commit}")


def _moment(source: Source) -> datetime:
    return datetime.fromtimestamp(source.epoch, UTC)


def _written(bom: dict[str, Any]) -> bytes:
    return (json.dumps(bom, indent=1, sort_keys=True) + "\n").encode()
