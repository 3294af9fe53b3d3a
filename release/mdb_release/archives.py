"""Archives whose bytes depend on nothing but what is in them, and OCI image layouts.

The layout is that of https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Descriptor = dict[str, Any]
"""A reference to a blob: its media type, digest and size in bytes."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


def tar(files: Mapping[str, bytes], epoch: int) -> bytes:
    """Return an archive of files by their names, in the order of the names."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(content), epoch, 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def zipped(content: bytes) -> bytes:
    """Return content in gzip's format, with no date and no name in its header."""
    return gzip.compress(content, mtime=0)


def files_in(directory: Path) -> dict[str, bytes]:
    """Return the files below a directory by their relative paths."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def document(value: object) -> bytes:
    """Return a value as JSON, always in the same form."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def digest_of(content: bytes) -> str:
    """Return a blob's digest, as OCI writes it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(blob: bytes, media_type: str, **more: object) -> Descriptor:
    """Return what refers to a blob."""
    return {"mediaType": media_type, "digest": digest_of(blob), "size": len(blob), **more}


def layout(blobs: Iterable[bytes], top: Descriptor) -> dict[str, bytes]:
    """Return the files of a layout.

    Parameters
    ----------
    blobs
        All that is in it.
    top
        Refers to the one among them that is published: a manifest, or an index of several.
    """
    return {
        "oci-layout": document({"imageLayoutVersion": "1.0.0"}),
        "index.json": document({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]}),
        **{blob_path(digest_of(blob)): blob for blob in blobs},
    }


def blob_path(digest: str) -> str:
    """Return where a layout has a blob."""
    return f"blobs/{digest.replace(':', '/')}"


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform, in memory.

    Parameters
    ----------
    files
        Those of a layout.
    descriptor
        Refers to the image's manifest in it.
    """

    files: Mapping[str, bytes]
    descriptor: Descriptor

    def blob(self, digest: str) -> bytes:
        """Return a blob."""
        return self.files[blob_path(digest)]

    @property
    def manifest(self) -> dict[str, Any]:
        """The image's manifest."""
        found: dict[str, Any] = json.loads(self.blob(self.descriptor["digest"]))
        return found

    @property
    def config(self) -> dict[str, Any]:
        """The image's configuration: platform, labels, user, entry point."""
        found: dict[str, Any] = json.loads(self.blob(self.manifest["config"]["digest"]))
        return found

    @property
    def blobs(self) -> list[bytes]:
        """Everything that the image consists of."""
        manifest = self.manifest
        parts = [self.descriptor, manifest["config"], *manifest["layers"]]
        return [self.blob(part["digest"]) for part in parts]

    def entries(self) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        """Yield what the layers hold, lowest first, with the content of files."""
        for part in self.manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(self.blob(part["digest"]))) as layer:
                for entry in layer:
                    file = layer.extractfile(entry) if entry.isfile() else None
                    yield entry, b"" if file is None else file.read()


def images_in(archive: Path) -> list[Image]:
    """Return the images of a packed layout, one a platform."""
    return images(files_of(archive.read_bytes()))


def images(files: Mapping[str, bytes]) -> list[Image]:
    """Return the images of a layout, one a platform."""
    found = json.loads(files["index.json"])["manifests"]
    while found[0]["mediaType"] == INDEX:
        found = json.loads(files[blob_path(found[0]["digest"])])["manifests"]
    return [Image(files, one) for one in found]


def files_of(archive: bytes) -> dict[str, bytes]:
    """Return the files of an archive, zipped or not."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        return {
            entry.name: file.read()
            for entry in packed
            if (file := packed.extractfile(entry)) is not None
        }
