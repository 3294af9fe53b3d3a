"""What cursors and change streams have in common: they are iterated, closed, and never copied."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from mdb_engine.exceptions import AttributeRefused
from mdb_engine.scoped.not_offered import refusal

__all__ = ["Document", "Iteration"]

Document = dict[str, Any]
"""A document as it comes from the server."""


class Iteration(abc.ABC):
    """Something that returns documents one by one, over a connection of this process."""

    __slots__ = ()

    _refused: ClassVar[Mapping[str, str]]
    """What the drivers' objects offer and this one refuses."""

    def __reduce_ex__(self, protocol: object) -> Any:
        kind = type(self).__name__
        raise TypeError(f"a {kind} belongs to this process and can be neither copied nor pickled")

    if not TYPE_CHECKING:  # a type checker is to say so as well

        def __getattr__(self, name: str) -> Any:
            raise AttributeRefused(refusal(type(self).__name__, name, self._refused))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Document:
        return await self.next()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @abc.abstractmethod
    async def next(self) -> Document:
        """Return the next document; raise `StopAsyncIteration` if there is none."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Let the server forget it."""
