"""What the operator connects to MongoDB with, followed as kubelet replaces it.

A driver's client keeps the URI and the certificates that it was made with. Where a mounted file
says something else the process ends, and starts with that: nothing else makes sure that each part
of it has the new ones.
"""

from __future__ import annotations

import asyncio

import structlog
from pydantic import SecretStr

from mdb_operator.config import Config
from mdb_operator.exceptions import ConfigurationInvalid, OperatorError
from mdb_operator.mongodb.certificates import own_certificates

__all__ = ["ConnectionFiles"]

LOOK_SECONDS = 2.0
"""How often the files are read; kubelet takes up to a minute and a half to change them."""

_log = structlog.get_logger(__name__)


class ConnectionFiles:
    """The files of the operator's own connection, as they were when this was made.

    Make it before the connection: what changes in between ends the process once too often, and
    never once too rarely.

    Raises
    ------
    ConfigurationInvalid
        If a file cannot be read or does not hold what it should.
    """

    def __init__(self, config: Config, interval: float = LOOK_SECONDS) -> None:
        self._config = config
        self._interval = interval
        self._before = self._read()

    async def end_when_changed(self) -> None:
        """Look until a file holds something else that can be used.

        One that cannot be used ends nothing: the connection that stands is better than a process
        that cannot start.

        Raises
        ------
        OperatorError
            When the process has to start anew.
        """
        problem: str | None = None
        while True:
            await asyncio.sleep(self._interval)
            try:
                now = self._read()
            except ConfigurationInvalid as error:
                if str(error) != problem:
                    problem = str(error)
                    _log.warning("The connection to MongoDB stays as it is", error=problem)
                continue
            problem = None
            for what, text in now.items():
                if text != self._before[what]:
                    raise OperatorError(f"{what} has changed; the process starts anew")

    def _read(self) -> dict[str, SecretStr]:
        return {
            "The URI of MongoDB": self._config.read_mongodb_uri(),
            "A certificate for MongoDB": SecretStr(own_certificates(self._config)),
        }
