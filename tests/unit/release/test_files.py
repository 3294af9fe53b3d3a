"""The files of a release, made twice; with an image that a test makes in the place of a built one.

`make test-release` does the same with the real image (`tests/release`).
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from support.checkouts import clone

from mdb_release import archives, image
from mdb_release.__main__ import write
from mdb_release.archives import Image
from mdb_release.chart import CONFIG, CONTENT
from mdb_release.source import DISTRIBUTIONS, Source, unpack

ROOT = Path(__file__).resolve().parents[3]

VERSION, CHART_VERSION = "1.2.3rc1", "1.2.3-rc.1"

REPOSITORY = "registry.example.com/mdb/mdb-operator"

STATUS = "Package: libc6\nVersion: 2.36-9\nArchitecture: amd64\n"

METADATA = "Name: Kopf\nVersion: 1.45.2\nLicense-Expression: MIT\n"


@dataclass(frozen=True)
class Release:
    source: Source
    directory: Path

    def read(self, name: str) -> bytes:
        return (self.directory / name).read_bytes()

    def bill(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.read(f"{name}-{CHART_VERSION}.cdx.json"))
        return found


def tiny_image(source: Source, architecture: str = "amd64") -> Image:
    """Return an image with one Debian package and one distribution."""
    layer = archives.zipped(
        archives.tar(
            {
                "var/lib/dpkg/status.d/libc6": STATUS.encode(),
                "app/lib/kopf-1.45.2.dist-info/METADATA": METADATA.encode(),
                "usr/lib/os-release": b'ID=debian\nVERSION_ID="12"\n',
            },
            source.epoch,
        )
    )
    labels = {"version": source.chart_version, "revision": source.commit}
    named = {f"org.opencontainers.image.{name}": value for name, value in labels.items()}
    config = archives.document(
        {"architecture": architecture, "os": "linux", "config": {"Labels": named}}
    )
    manifest = archives.document(
        {
            "schemaVersion": 2,
            "config": archives.descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [archives.descriptor(layer, "application/vnd.oci.image.layer.v1.tar+gzip")],
        }
    )
    top = archives.descriptor(manifest, archives.MANIFEST)
    [made] = archives.images(archives.layout([layer, config, manifest], top))
    return made


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> list[Release]:
    """Give two builds of one commit, each in a directory of its own."""
    made = []
    for name in ("one", "another-place"):
        directory = tmp_path_factory.mktemp(name)
        (directory / "tree").mkdir()
        source = unpack(VERSION, directory / "tree", clone(directory / "checkout"))
        (directory / "dist").mkdir()
        images = [tiny_image(source), tiny_image(source, "arm64")]
        write(source, images, REPOSITORY, directory / "dist")
        made.append(Release(source, directory / "dist"))
    return made


@pytest.fixture
def release(releases: list[Release]) -> Release:
    return releases[0]


def test_two_builds_in_different_places_are_the_same_byte_by_byte(
    releases: list[Release],
) -> None:
    one, other = (archives.files_in(release.directory) for release in releases)
    assert sorted(one) == sorted(other)
    assert [name for name in one if one[name] != other[name]] == []


def test_a_release_has_all_of_its_files_and_their_sums(release: Release) -> None:
    names = {path.name for path in release.directory.iterdir()}
    python = {
        f"{name.replace('-', '_')}-{VERSION}{ending}"
        for name in DISTRIBUTIONS
        for ending in ("-py3-none-any.whl", ".tar.gz")
    }
    bills = [*DISTRIBUTIONS, *(f"mdb-operator-{one}" for one in ("chart", "image-amd64"))]
    assert names == {
        *python,
        *(f"{name}-{CHART_VERSION}.cdx.json" for name in [*bills, "mdb-operator-image-arm64"]),
        f"mdb-operator-image-{CHART_VERSION}.oci.tar",
        f"mdb-operator-chart-{CHART_VERSION}.oci.tar",
        f"mdb-operator-{CHART_VERSION}.tgz",
        "crds.yaml",
        "SHA256SUMS",
    }
    lines = release.read("SHA256SUMS").decode().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == names - {"SHA256SUMS"}
    assert all(hashlib.sha256(release.read(name)).hexdigest() == sums[name] for name in sums)


def test_distributions_have_the_version_the_licence_and_need_one_another_in_it(
    release: Release,
) -> None:
    for name in DISTRIBUTIONS:
        file = f"{name.replace('-', '_')}-{VERSION}"
        with zipfile.ZipFile(release.directory / f"{file}-py3-none-any.whl") as wheel:
            [metadata] = (one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
            text = wheel.read(metadata).decode()
            assert any(one.endswith("licenses/LICENSE") for one in wheel.namelist())
        assert f"\nVersion: {VERSION}\n" in text
        if name != "mdbapp-engine":
            needs = [line for line in text.splitlines() if line.startswith("Requires-Dist: mdb")]
            assert needs
            assert all(line.partition(";")[0].endswith(f"=={VERSION}") for line in needs)
        with tarfile.open(release.directory / f"{file}.tar.gz") as sdist:
            assert {entry.mtime for entry in sdist} == {release.source.epoch}
            assert f"{file}/LICENSE" in sdist.getnames()


def test_the_chart_names_the_image_by_its_digest_and_keeps_its_comments(release: Release) -> None:
    files = archives.files_of(release.read(f"mdb-operator-{CHART_VERSION}.tgz"))
    chart = yaml.safe_load(files["mdb-operator/Chart.yaml"])
    assert (chart["version"], chart["appVersion"]) == (CHART_VERSION, CHART_VERSION)
    values = yaml.safe_load(files["mdb-operator/values.yaml"])["image"]
    packed = archives.files_of(release.read(f"mdb-operator-image-{CHART_VERSION}.oci.tar"))
    [index] = json.loads(packed["index.json"])["manifests"]
    assert values["repository"] == REPOSITORY
    assert values["digest"] == index["digest"]
    before = (ROOT / "charts/mdb-operator/values.yaml").read_text().splitlines()
    after = files["mdb-operator/values.yaml"].decode().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [f"  repository: {REPOSITORY}", f"  digest: {index['digest']}"]


def test_the_image_has_one_manifest_a_platform(release: Release) -> None:
    archive = release.directory / f"mdb-operator-image-{CHART_VERSION}.oci.tar"
    found = archives.images_in(archive)
    assert [one.descriptor["platform"] for one in found] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    assert found[0].blobs == tiny_image(release.source).blobs


def test_the_chart_is_an_artefact_as_helm_pushes_it(release: Release) -> None:
    archive = release.directory / f"mdb-operator-chart-{CHART_VERSION}.oci.tar"
    [artefact] = archives.images_in(archive)
    manifest = artefact.manifest
    assert manifest["config"]["mediaType"] == CONFIG
    [layer] = manifest["layers"]
    assert layer["mediaType"] == CONTENT
    packed = release.read(f"mdb-operator-{CHART_VERSION}.tgz")
    assert artefact.blob(layer["digest"]) == packed
    assert json.loads(artefact.blob(manifest["config"]["digest"]))["name"] == "mdb-operator"


def test_every_bill_of_materials_is_valid(release: Release) -> None:
    bills = list(release.directory.glob("*.cdx.json"))
    assert len(bills) == len(DISTRIBUTIONS) + 3
    for path in bills:
        bill = json.loads(path.read_text())
        for component in bill["components"][1:]:
            # Thousands of addresses of one form take the validator minutes; those of the first do.
            component.pop("externalReferences", None)
        version = SchemaVersion.from_version(bill["specVersion"])
        error = JsonStrictValidator(version).validate_str(json.dumps(bill))
        assert error is None, path.name


def test_bills_say_what_is_needed_and_what_is_in_the_image(release: Release) -> None:
    engine = release.bill("mdbapp-engine")
    assert engine["metadata"]["component"]["purl"] == f"pkg:pypi/mdbapp-engine@{VERSION}"
    assert {"pydantic", "pymongo", "fastapi"} <= {one["name"] for one in engine["components"]}
    assert "pytest" not in {one["name"] for one in engine["components"]}
    found = {one["name"]: one for one in release.bill("mdb-operator-image-amd64")["components"]}
    assert found["libc6"]["purl"] == "pkg:deb/debian/libc6@2.36-9?arch=amd64&distro=debian"
    assert found["Kopf"]["purl"] == "pkg:pypi/kopf@1.45.2"
    assert set(found) == {"Kopf", "debian", "libc6"}
    chart = {one["name"] for one in release.bill("mdb-operator-chart")["components"]}
    assert chart == {"mdb-operator", "mongo"}


def test_crds_are_the_ones_that_operators_expect(release: Release) -> None:
    assert release.read("crds.yaml") == (ROOT / "crds/mdbapps.mdb-engine.dev.yaml").read_bytes()


@pytest.mark.parametrize("version", ["", "1.2", "v1.2.3", "1.2.3.dev4", "01.2.3", "1.2.3+x"])
def test_a_version_that_is_none_is_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match=r"is no version: say 1\.2\.3"):
        unpack(version, tmp_path)


def test_changes_that_are_not_committed_are_refused(tmp_path: Path) -> None:
    checkout = clone(tmp_path / "checkout")
    (checkout / "new.txt").write_text("not committed")
    with pytest.raises(click.ClickException, match=r"commit them:\n.*new\.txt"):
        unpack(VERSION, tmp_path / "tree", checkout)


def test_images_of_another_commit_or_twice_of_one_platform_are_refused(
    release: Release, tmp_path: Path
) -> None:
    source = release.source
    other = Source(source.directory, source.version, "0" * 40, source.epoch)
    with pytest.raises(click.ClickException, match="not of this release"):
        image.pack([tiny_image(other)], source, tmp_path / "image.tar")
    with pytest.raises(click.ClickException, match="Two images are for"):
        image.pack([tiny_image(source), tiny_image(source)], source, tmp_path / "image.tar")
