"""Files in two collections of an app, by the GridFS specification, so that every driver reads them.

The drivers' own buckets take nothing but the drivers' databases. A bucket ``fs`` is in the
collections ``fs_files`` and ``fs_chunks``, as a name with a dot is no declared collection; the
manifest declares both. They are scoped like any other: what is here asks them and nothing else.

Source: https://github.com/mongodb/specifications, gridfs. Errors are those of the drivers'
``gridfs.errors``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Protocol, Self

from bson.int64 import Int64
from bson.objectid import ObjectId
from gridfs.errors import CorruptGridFile, FileExists, NoFile
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import BulkWriteError, DuplicateKeyError

from mdb_engine.exceptions import OptionRefused
from mdb_engine.scoped.collection import ScopedCollection
from mdb_engine.scoped.cursor import Document, ScopedCursor
from mdb_engine.scoped.database import ScopedApp, ScopedDatabase
from mdb_engine.scoped.transaction import AnySession

__all__ = ["Download", "ScopedBucket", "Upload", "scoped_bucket"]

CHUNK_BYTES: Final = 255 * 1024
"""Bytes of a chunk, as the specification has it: with its fields, a chunk fits into 256 KiB."""

LARGEST_CHUNK_BYTES: Final = 15 * 1024 * 1024
"""A chunk is a document, and one of those holds 16 MiB."""

BUFFERED_BYTES: Final = 8 * 1024 * 1024
"""How much an upload collects before it is sent: a few dozen chunks at once, little memory."""

_DUPLICATE_KEY = 11000


class Readable(Protocol):
    """A file that is open for reading; ``read`` may be a coroutine."""

    def read(self, size: int, /) -> Any:
        """Return up to so many bytes."""


class Writable(Protocol):
    """A file that is open for writing; ``write`` may be a coroutine."""

    def write(self, data: bytes, /) -> Any:
        """Take some bytes."""


def scoped_bucket(
    db: ScopedDatabase | ScopedApp, name: str = "fs", *, chunk_size_bytes: int = CHUNK_BYTES
) -> ScopedBucket:
    """Return a bucket of files, which are kept in the collections ``<name>_files`` and ``_chunks``.

    Parameters
    ----------
    db
        The app's database; or ``db.app(slug)``, whose files are read where they are granted.
    name
        The bucket's name.
    chunk_size_bytes
        How large the chunks of new files are.
    """
    if not isinstance(db, ScopedDatabase | ScopedApp):
        raise OptionRefused("a bucket is of a scoped database, or of db.app(slug)", path="db")
    return ScopedBucket(db[f"{name}_files"], db[f"{name}_chunks"], _chunk_size(chunk_size_bytes))


class ScopedBucket:
    """A bucket of files; `scoped_bucket` makes it.

    Parameters
    ----------
    files, chunks
        Its collections.
    chunk_size_bytes
        How large the chunks of new files are.

    Notes
    -----
    The methods are those of PyMongo's ``AsyncGridFSBucket``. Files are written and deleted in
    several steps, as the specification has it, and not in a transaction.

    Examples
    --------
    ::

        bucket = scoped_bucket(db, "fs")
        file_id = await bucket.upload_from_stream("report.pdf", data)
        async for part in await bucket.open_download_stream(file_id):
            ...
    """

    __slots__ = ("_chunk_size", "_chunks", "_files")

    def __init__(
        self, files: ScopedCollection, chunks: ScopedCollection, chunk_size_bytes: int
    ) -> None:
        self._files = files
        self._chunks = chunks
        self._chunk_size = chunk_size_bytes

    def __repr__(self) -> str:
        return f"ScopedBucket({self._files.name!r})"

    def open_upload_stream(
        self,
        filename: str,
        chunk_size_bytes: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        session: AnySession | None = None,
    ) -> Upload:
        """Return a new file to write to; it exists once it is closed."""
        return self.open_upload_stream_with_id(
            ObjectId(), filename, chunk_size_bytes, metadata, session
        )

    def open_upload_stream_with_id(
        self,
        file_id: Any,
        filename: str,
        chunk_size_bytes: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        session: AnySession | None = None,
    ) -> Upload:
        """Do the same under an ``_id`` of the caller's."""
        if not isinstance(filename, str):
            raise OptionRefused("filename has to be a string", path="filename")
        size = self._chunk_size if chunk_size_bytes is None else _chunk_size(chunk_size_bytes)
        document = {"_id": file_id, "filename": filename, "chunkSize": size}
        if metadata is not None:
            document["metadata"] = dict(metadata)
        return Upload(self._files, self._chunks, document, session)

    async def upload_from_stream(
        self,
        filename: str,
        source: bytes | Readable,
        chunk_size_bytes: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        session: AnySession | None = None,
    ) -> ObjectId:
        """Store bytes, or what a file that is open for reading has; returns the ``_id``."""
        file_id = ObjectId()
        await self.upload_from_stream_with_id(
            file_id, filename, source, chunk_size_bytes, metadata, session
        )
        return file_id

    async def upload_from_stream_with_id(
        self,
        file_id: Any,
        filename: str,
        source: bytes | Readable,
        chunk_size_bytes: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        session: AnySession | None = None,
    ) -> None:
        """Do the same under an ``_id`` of the caller's.

        Raises
        ------
        FileExists
            If there is a file of that ``_id``.
        """
        async with self.open_upload_stream_with_id(
            file_id, filename, chunk_size_bytes, metadata, session
        ) as upload:
            await upload.write(source)

    async def open_download_stream(
        self, file_id: Any, session: AnySession | None = None
    ) -> Download:
        """Return a file to read.

        Raises
        ------
        NoFile
            If there is none of that ``_id`` in scope.
        """
        document = await self._files.find_one({"_id": {"$eq": file_id}}, session=session)
        if document is None:
            raise NoFile(f"no file of the _id {file_id!r}")
        return Download(self._chunks, document, session)

    async def open_download_stream_by_name(
        self, filename: str, revision: int = -1, session: AnySession | None = None
    ) -> Download:
        """Return a file to read by its name.

        Parameters
        ----------
        filename
            Its name.
        revision
            Which of those of that name: 0 is the first, -1 the newest.
        session
            The session.
        """
        skip, order = (revision, ASCENDING) if revision >= 0 else (-revision - 1, DESCENDING)
        cursor = self._files.find({"filename": {"$eq": filename}}, session=session)
        found = await cursor.sort("uploadDate", order).skip(skip).limit(1).to_list()
        if not found:
            raise NoFile(f"no version {revision} of the file {filename!r}")
        return Download(self._chunks, found[0], session)

    async def download_to_stream(
        self, file_id: Any, destination: Writable, session: AnySession | None = None
    ) -> None:
        """Write a file into another that is open for writing."""
        await _copy(await self.open_download_stream(file_id, session), destination)

    async def download_to_stream_by_name(
        self,
        filename: str,
        destination: Writable,
        revision: int = -1,
        session: AnySession | None = None,
    ) -> None:
        """Do the same by its name; as `open_download_stream_by_name`."""
        await _copy(
            await self.open_download_stream_by_name(filename, revision, session), destination
        )

    def find(self, *arguments: Any, **options: Any) -> ScopedCursor:
        """Return a cursor over the descriptions of files; as `ScopedCollection.find`."""
        return self._files.find(*arguments, **options)

    async def delete(self, file_id: Any, session: AnySession | None = None) -> None:
        """Delete a file and its chunks.

        Raises
        ------
        NoFile
            If there is none of that ``_id``.
        """
        deleted = await self._files.delete_one({"_id": {"$eq": file_id}}, session=session)
        await self._chunks.delete_many({"files_id": {"$eq": file_id}}, session=session)
        if not deleted.deleted_count:
            raise NoFile(f"no file of the _id {file_id!r}")

    async def delete_by_name(self, filename: str, session: AnySession | None = None) -> None:
        """Delete all files of a name."""
        found = await self._files.find(
            {"filename": {"$eq": filename}}, {"_id": 1}, session=session
        ).to_list()
        ids = [document["_id"] for document in found]
        deleted = await self._files.delete_many({"_id": {"$in": ids}}, session=session)
        await self._chunks.delete_many({"files_id": {"$in": ids}}, session=session)
        if not deleted.deleted_count:
            raise NoFile(f"no file named {filename!r}")

    async def rename(
        self, file_id: Any, new_filename: str, session: AnySession | None = None
    ) -> None:
        """Give a file another name."""
        renamed = await self._files.update_one(
            {"_id": {"$eq": file_id}}, {"$set": {"filename": new_filename}}, session=session
        )
        if not renamed.matched_count:
            raise NoFile(f"no file of the _id {file_id!r}")

    async def rename_by_name(
        self, filename: str, new_filename: str, session: AnySession | None = None
    ) -> None:
        """Give all files of a name another one."""
        renamed = await self._files.update_many(
            {"filename": {"$eq": filename}}, {"$set": {"filename": new_filename}}, session=session
        )
        if not renamed.matched_count:
            raise NoFile(f"no file named {filename!r}")


class Upload:
    """A file that is being written. Leaving its block closes it, an exception discards it."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_closed",
        "_document",
        "_files",
        "_length",
        "_n",
        "_session",
    )

    def __init__(
        self,
        files: ScopedCollection,
        chunks: ScopedCollection,
        document: Document,
        session: AnySession | None,
    ) -> None:
        self._files = files
        self._chunks = chunks
        self._document = document
        self._session = session
        self._buffer = bytearray()
        self._closed = False
        self._length = 0
        self._n = 0

    def __repr__(self) -> str:
        return f"Upload({self._document['filename']!r})"

    @property
    def closed(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closed

    @property
    def _id(self) -> Any:
        """Its ``_id``, by the drivers' name for it."""
        return self._document["_id"]

    async def write(self, data: bytes | Readable) -> None:
        """Write bytes, or what a file that is open for reading has."""
        if self._closed:
            raise ValueError("the file is closed; open another")
        if isinstance(data, bytes | bytearray | memoryview):
            self._buffer += data
            await self._send(all_of_it=False)
            return
        read = getattr(data, "read", None)
        if read is None:
            raise TypeError("a file takes bytes, or an object with a method read")
        while part := await _settled(read(BUFFERED_BYTES)):
            self._buffer += part
            await self._send(all_of_it=False)

    async def close(self) -> None:
        """Send what is left, and let the file exist."""
        if self._closed:
            return
        await self._send(all_of_it=True)
        self._closed = True
        document = {
            **self._document,
            "length": Int64(self._length),
            "uploadDate": datetime.now(UTC),
        }
        try:
            await self._files.insert_one(document, session=self._session)
        except DuplicateKeyError:
            raise FileExists(f"there is a file of the _id {self._id!r}") from None

    async def abort(self) -> None:
        """Delete what was sent of it."""
        self._closed = True
        if self._n:
            await self._chunks.delete_many({"files_id": {"$eq": self._id}}, session=self._session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
        elif not isinstance(error, FileExists):  # whose chunks are the other file's
            await self.abort()

    async def _send(self, *, all_of_it: bool) -> None:
        size = self._document["chunkSize"]
        if not all_of_it and len(self._buffer) < max(BUFFERED_BYTES, size):
            return
        whole = len(self._buffer) if all_of_it else len(self._buffer) // size * size
        if not self._n and not self._length:
            await self._make_indexes()
        documents = [
            {
                "_id": ObjectId(),
                "files_id": self._id,
                "n": self._n + index,
                "data": bytes(self._buffer[start : start + min(size, whole - start)]),
            }
            for index, start in enumerate(range(0, whole, size))
        ]
        if documents:
            try:
                await self._chunks.insert_many(documents, session=self._session)
            except BulkWriteError as error:
                self._closed = True
                if any(one["code"] == _DUPLICATE_KEY for one in error.details["writeErrors"]):
                    raise FileExists(f"there is a file of the _id {self._id!r}") from None
                raise
        self._n += len(documents)
        self._length += whole
        del self._buffer[:whole]

    async def _make_indexes(self) -> None:
        """Make the indexes of the specification, before the first file."""
        if await self._files.find_one({}, {"_id": 1}) is None:
            await self._files.create_index([("filename", 1), ("uploadDate", 1)])
            await self._chunks.create_index([("files_id", 1), ("n", 1)], unique=True)


class Download:
    """A file that is being read, by ``async for`` or by `read`."""

    __slots__ = ("_chunks", "_cursor", "_document", "_n", "_rest", "_session")

    def __init__(
        self, chunks: ScopedCollection, document: Document, session: AnySession | None
    ) -> None:
        self._chunks = chunks
        self._document = document
        self._session = session
        self._cursor: ScopedCursor | None = None
        self._n = 0
        self._rest = b""

    def __repr__(self) -> str:
        return f"Download({self.filename!r}, {self.length} bytes)"

    @property
    def filename(self) -> str | None:
        """Its name."""
        name: str | None = self._document.get("filename")
        return name

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return int(self._document["length"])

    @property
    def chunk_size(self) -> int:
        """How many bytes each of its chunks but the last has."""
        return int(self._document["chunkSize"])

    @property
    def upload_date(self) -> datetime:
        """When it was closed."""
        date: datetime = self._document["uploadDate"]
        return date

    @property
    def metadata(self) -> Mapping[str, Any] | None:
        """What the app says of it."""
        metadata: Mapping[str, Any] | None = self._document.get("metadata")
        return metadata

    @property
    def _id(self) -> Any:
        """Its ``_id``, by the drivers' name for it."""
        return self._document["_id"]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._rest:
            part, self._rest = self._rest, b""
            return part
        return await self._next_chunk()

    async def read(self, size: int = -1) -> bytes:
        """Return so many of the bytes that are left, or all."""
        parts, left = [], self.length if size < 0 else size
        while left > 0:
            try:
                part = await self.__anext__()
            except StopAsyncIteration:
                break
            parts.append(part[:left])
            self._rest = part[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    async def close(self) -> None:
        """Read no more."""
        if self._cursor is not None:
            await self._cursor.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _next_chunk(self) -> bytes:
        if self._n * self.chunk_size >= self.length:
            raise StopAsyncIteration
        if self._cursor is None:
            self._cursor = self._chunks.find(
                {"files_id": {"$eq": self._id}}, sort=[("n", 1)], session=self._session
            )
        chunk = await self._cursor.try_next()
        expected = min(self.chunk_size, self.length - self._n * self.chunk_size)
        if chunk is None or chunk["n"] != self._n or len(chunk["data"]) != expected:
            await self.close()
            raise CorruptGridFile(f"chunk {self._n} of the file {self._id!r} is missing or cut")
        self._n += 1
        return bytes(chunk["data"])


async def _copy(download: Download, destination: Writable) -> None:
    async with download:
        async for part in download:
            await _settled(destination.write(part))


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _chunk_size(size: int) -> int:
    if type(size) is not int or not 0 < size <= LARGEST_CHUNK_BYTES:
        raise OptionRefused(
            f"chunk_size_bytes has to lie between 1 and {LARGEST_CHUNK_BYTES}",
            path="chunk_size_bytes",
        )
    return size
