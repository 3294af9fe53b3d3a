"""A collection as one app sees it: every operation scoped, or refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from mdb_engine.exceptions import AttributeRefused, OptionRefused
from mdb_engine.scoped.concerns import CollectionOptions, Concerns, merge_options
from mdb_engine.scoped.context import Purpose, Reference
from mdb_engine.scoped.index_operations import IndexOperations
from mdb_engine.scoped.not_offered import COLLECTION_REFUSED, refusal
from mdb_engine.scoped.options import CommonOptions
from mdb_engine.scoped.reads import Reads
from mdb_engine.scoped.rewrite.filters import scope_filter
from mdb_engine.scoped.writes import Writes

__all__ = ["ScopedCollection"]


class ScopedCollection(Reads, Writes, IndexOperations, Concerns):
    """A collection of a scoped database. ``db.clicks`` makes it; it costs nothing.

    Parameters
    ----------
    context
        What the database works with.
    reference
        The collection as the caller named it. What it means is decided anew by every operation.

    Notes
    -----
    The methods are those of Motor's collections. What they refuse is a
    `mdb_engine.exceptions.MdbEngineError`; errors about the caller's own data, such as
    `pymongo.errors.DuplicateKeyError`, are the driver's. Reads see the documents that carry the
    stamp of the collection's owner, writes touch none but the app's own.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        app = f", app={self._reference.app!r}" if self._reference.app is not None else ""
        return f"ScopedCollection({self._reference.name!r}{app})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScopedCollection):
            return NotImplemented
        same = self._context.gate() is other._context.gate()
        return same and self._reference == other._reference

    def __hash__(self) -> int:
        return hash((id(self._context.gate()), self._reference.name, self._reference.app))

    if not TYPE_CHECKING:  # a type checker is to say so as well

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("_") and name not in COLLECTION_REFUSED:
                raise AttributeRefused(
                    f"{self!r} has no operation {name!r}, and collections below a collection are "
                    "not offered: a name with a dot is no declared collection"
                )
            raise AttributeRefused(refusal("ScopedCollection", name, COLLECTION_REFUSED))

    def __getitem__(self, name: str) -> ScopedCollection:
        raise OptionRefused(
            "collections below a collection are not offered: a name with a dot is no declared "
            "collection"
        )

    @property
    def name(self) -> str:
        """The name by which the collection was asked for."""
        return self._reference.name

    @property
    def full_name(self) -> str:
        """The name of the database and the collection's name in MongoDB, with a dot between."""
        with self._begin("full_name", Purpose.READ) as operation:
            return f"{self._context.source()().database.name}.{operation.target.physical}"

    def with_options(self, **options: Unpack[CollectionOptions]) -> ScopedCollection:
        """Return the same collection, read and written in another way.

        Parameters
        ----------
        **options
            See `CollectionOptions`.

        Raises
        ------
        OptionRefused
            If documents would not be decoded as dicts.
        """
        merged = merge_options(self._reference.options, options, self._context.limits)
        reference = Reference(self._reference.name, self._reference.app, merged)
        return ScopedCollection(self._context, reference)

    async def options(self, **options: Unpack[CommonOptions]) -> dict[str, Any]:
        """Return the options that the collection was made with; the app's own only.

        Raises
        ------
        ScopeDenied
            With ``isolation: database``: MongoDB shows them to none but who may see those of all
            apps' collections.
        """
        with self._begin("options", Purpose.OWN) as operation:
            settings = self._common("options", options)
        return dict(await operation.run("options", **settings))

    async def drop(self, **options: Unpack[CommonOptions]) -> None:
        """Drop the collection with its indexes; the app's own only.

        One that the manifest declares is emptied, and its indexes are dropped: it belongs to the
        platform, as does the validator by which MongoDB holds the stamp. Indexes that the manifest
        declares are made again by the operator, or when the app starts.

        Parameters
        ----------
        **options
            See `CommonOptions`.

        Raises
        ------
        LimitExceeded
            If a declared collection has more documents than can be deleted within the time limit;
            those that were deleted stay so. Go on, or use a handle with another limit.
        """
        with self._begin("drop", Purpose.WRITE) as operation:
            settings = self._common("drop", options)
            query = scope_filter(None, operation.target, operation.limits)
        if not operation.target.declared:
            await operation.run("drop", **settings)
            return
        await operation.run("delete_many", query, **settings)
        await operation.run("drop_indexes", **settings)

    def _setting(self, name: str) -> Any:
        given = self._reference.options
        return given[name] if name in given else getattr(self._context.source()().database, name)
