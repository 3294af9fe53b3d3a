"""The few calls of the API server that starting a cluster takes."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from devcluster.errors import DevclusterError
from devcluster.node.layout import Layout

_TIMEOUT = 5.0
_POLL = 0.05


class Client:
    """Calls the API server as the administrator.

    Parameters
    ----------
    layout
        The cluster's files.
    url
        The API server's URL.
    """

    def __init__(self, layout: Layout, url: str) -> None:
        context = ssl.create_default_context(cafile=str(layout.ca.certificate))
        admin = layout.pair("admin")
        context.load_cert_chain(admin.certificate, admin.key)
        self._url = url
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def get(self, path: str) -> Any | None:
        """Return an object, or None if there is none or the server cannot say yet."""
        try:
            with self._opener.open(self._url + path, timeout=_TIMEOUT) as answer:
                return json.load(answer)
        except OSError:
            return None

    def create(self, path: str, content: dict[str, Any]) -> None:
        """Create an object in a collection, unless it is there already.

        Raises
        ------
        DevclusterError
            If the server refuses.
        """
        request = urllib.request.Request(  # noqa: S310 - the URL is ours
            self._url + path,
            data=json.dumps(content).encode(),
            headers={"Content-Type": "application/json"},
            method="POST",
        )
        try:
            self._opener.open(request, timeout=_TIMEOUT).close()
        except urllib.error.HTTPError as error:
            if error.code != 409:
                name = content["metadata"]["name"]
                raise DevclusterError(
                    f"The API server refuses {content['kind']} {name}: {error.read().decode()}"
                ) from error


def wait_until(check: Callable[[], bool], deadline: float, message: str) -> None:
    """Wait until a check holds.

    Parameters
    ----------
    check
        Asked again and again; may itself raise a DevclusterError to give up early.
    deadline
        How long, in seconds.
    message
        What did not happen, should it not.

    Raises
    ------
    DevclusterError
        If it does not hold in time.
    """
    end = time.monotonic() + deadline
    while not check():
        if time.monotonic() > end:
            raise DevclusterError(
                f"{message} within {deadline:.0f} s",
                "`devcluster status` says how the components fare and where their logs are.",
            )
        time.sleep(_POLL)
