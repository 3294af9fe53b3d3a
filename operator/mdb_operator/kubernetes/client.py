"""Requests to the API server: plain JSON in and out, errors as the operator's own.

Built on the connection, TLS and credential handling of ``kubernetes.aio``, but not on its generated
models: those drop fields that they do not know, and writing back an object read through them would
delete what a newer cluster added. Objects are therefore dictionaries throughout.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeAlias

import aiohttp
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from mdb_operator.exceptions import ConfigurationInvalid, KubernetesUnavailable
from mdb_operator.kubernetes.errors import answer_error, stream_error
from mdb_operator.kubernetes.resources import Resource

__all__ = ["JSON_PATCH", "MERGE_PATCH", "PAGE_SIZE", "KubeClient", "KubeObject", "metadata_of"]

KubeObject: TypeAlias = dict[str, Any]
"""One object as the API server sent it."""

RequestObserver: TypeAlias = Callable[[str, str, int], None]
"""Told of every finished request: verb (``get``, ``create`` …), resource, HTTP status (0: none)."""

MERGE_PATCH = "application/merge-patch+json"
"""RFC 7386: a null removes a key, a list is replaced as a whole."""

JSON_PATCH = "application/json-patch+json"
"""RFC 6902: operations, among them ``test``."""

METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
"""Asks for one object without its spec, status or data."""

METADATA_ONLY_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
"""The same for lists; data of Secrets then never enters this process."""

PAGE_SIZE = 500
"""Objects in one page of a list: what client-go asks for, while they are as small as usual."""

PAGE_BYTES = 4 << 20
"""No page is read beyond this; it is asked for again in smaller ones.

Anybody who may write an object may put 256 KiB of annotations on it, which metadata-only lists hold
too: a page of 500 is then 122 MiB, and several times that once it is parsed.
"""

SMALLER_PAGE = 4
"""What a page that is too large is divided by: 125, 31, then 7 objects, which always fit."""

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=10)
"""No single request may hold a reconcile for longer."""

WATCH_SILENCE_SECONDS = 90
"""A watch that was silent for so long is dead: bookmarks come about once a minute."""

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where kubelet mounts the credentials of a pod."""


def metadata_of(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the object's metadata, empty when it has none."""
    metadata = obj.get("metadata")
    return metadata if isinstance(metadata, Mapping) else {}


def _in_pod() -> bool:
    return SERVICE_ACCOUNT_TOKEN.is_file()


class KubeClient:
    """A connection to one API server, shared by all stores of the process.

    Use `connect` to make one and `aclose` to end it. The observer is told of every finished
    request, for metrics and for tests that count writes.
    """

    def __init__(self, api: ApiClient, observer: RequestObserver | None = None) -> None:
        self._api = api
        self._observer = observer

    @classmethod
    async def connect(
        cls,
        *,
        kubeconfig: Path | None = None,
        context: str | None = None,
        observer: RequestObserver | None = None,
    ) -> Self:
        """Load credentials and return a client; nothing is sent yet.

        Without a kubeconfig the pod's ServiceAccount is used, and outside a pod what kubectl would
        use (``KUBECONFIG``, then ``~/.kube/config``).

        Raises
        ------
        ConfigurationInvalid
            If there are no usable credentials.
        """
        configuration = Configuration()
        try:
            if kubeconfig is None and _in_pod():
                load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            else:
                # The library read KUBECONFIG at its import, which may have been too early.
                path = str(kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config")
                await load_kube_config(  # type: ignore[no-untyped-call]
                    path, context=context, client_configuration=configuration, persist_config=False
                )
        except (ConfigException, OSError) as error:
            raise ConfigurationInvalid(
                f"no way to reach a Kubernetes API server: {error}. Run inside a pod with a "
                "ServiceAccount, or set MDB_OPERATOR_KUBECONFIG (or KUBECONFIG) to a file."
            ) from error
        return cls(ApiClient(configuration), observer)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        metadata_only: bool = False,
    ) -> KubeObject:
        """Read one object; `NotFound` if there is none."""
        accept = METADATA_ONLY if metadata_only else None
        return await self._send("get", resource, resource.path(namespace, name), accept=accept)

    async def create(self, resource: Resource, namespace: str, body: KubeObject) -> KubeObject:
        """Create one object; `AlreadyExists` if the name is taken."""
        return await self._send("create", resource, resource.path(namespace), body=body)

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: KubeObject
    ) -> KubeObject:
        """Replace one object; `Conflict` if ``body`` holds another resource version."""
        return await self._send("update", resource, resource.path(namespace, name), body=body)

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: KubeObject | list[KubeObject],
        *,
        content_type: str = MERGE_PATCH,
        subresource: str | None = None,
    ) -> KubeObject:
        """Change one object; a uid or resource version in a merge patch is a precondition."""
        return await self._send(
            "patch",
            resource,
            resource.path(namespace, name, subresource),
            body=body,
            content_type=content_type,
        )

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> None:
        """Delete one object if it is still the one that was seen; else `Conflict`."""
        preconditions = {"uid": uid, "resourceVersion": resource_version}
        body = {"preconditions": {key: value for key, value in preconditions.items() if value}}
        await self._send("delete", resource, resource.path(namespace, name), body=body)

    async def pages(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        metadata_only: bool = False,
        limit: int = PAGE_SIZE,
    ) -> AsyncIterator[KubeObject]:
        """Yield a list page by page, so that no answer grows with the cluster."""
        token: str | None = None
        while True:
            query: dict[str, str] = {"limit": str(limit)}
            if label_selector:
                query["labelSelector"] = label_selector
            if token:
                query["continue"] = token
            try:
                page = await self._send(
                    "list",
                    resource,
                    resource.path(namespace),
                    query=query,
                    accept=METADATA_ONLY_LIST if metadata_only else None,
                    most_bytes=PAGE_BYTES if limit > 1 else None,
                )
            except _TooLarge:
                limit = max(1, limit // SMALLER_PAGE)
                continue
            page["items"] = page.get("items") or []  # an empty metadata-only list has a null there
            yield page
            token = metadata_of(page).get("continue")
            if not token:
                return

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        metadata_only: bool = False,
        timeout_seconds: int = 600,
    ) -> AsyncIterator[KubeObject]:
        """Yield watch events after ``resource_version`` until the server ends the stream.

        Yields
        ------
        KubeObject
            ``{"type": ADDED|MODIFIED|DELETED|BOOKMARK, "object": …}``.

        Raises
        ------
        Expired
            If the resource version is too old: list again.
        KubernetesUnavailable
            If the connection broke or went silent.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        if label_selector:
            query["labelSelector"] = label_selector
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=WATCH_SILENCE_SECONDS)
        path = resource.path(namespace)
        what = f"watch {path}"
        try:
            response = await self._open(
                "GET",
                path,
                query=query,
                accept=METADATA_ONLY if metadata_only else None,
                timeout=timeout,
            )
            self._observe("watch", resource, response.status)
            async with _cutting_off(response):
                if response.status != 200:  # noqa: PLR2004 - the one success of a watch
                    raise answer_error(what, response, await response.read(), resource)
                async for line in response.content:
                    event: KubeObject = json.loads(line)
                    if event.get("type") == "ERROR":
                        raise stream_error(what, event.get("object", {}))
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise KubernetesUnavailable(f"{what}: {type(error).__name__}") from error

    async def _send(
        self,
        verb: str,
        resource: Resource,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str | None = None,
        most_bytes: int | None = None,
    ) -> KubeObject:
        method = _METHODS[verb]
        what = f"{verb} {path}"
        try:
            response = await self._open(
                method, path, query=query, body=body, content_type=content_type, accept=accept
            )
            async with response:
                payload = await _read(response, most_bytes)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._observe(verb, resource, 0)
            # Neither the text of the error nor its cause is shown: both may quote the request.
            raise KubernetesUnavailable(f"{what}: no answer ({type(error).__name__})") from error
        self._observe(verb, resource, response.status)
        if payload is None:
            raise _TooLarge
        if not 200 <= response.status < 300:  # noqa: PLR2004 - HTTP's classes
            raise answer_error(what, response, payload, resource)
        result: KubeObject = json.loads(payload)
        return result

    async def _open(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str | None = None,
        timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT,  # noqa: ASYNC109 - aiohttp's own type
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept or "application/json", "Content-Type": content_type}
        _, url, headers, body, _ = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = await self._api.call_api(
            method, url, headers, body, _request_timeout=timeout, _preload_content=False
        )
        response: aiohttp.ClientResponse = answer.response
        return response

    def _observe(self, verb: str, resource: Resource, status: int) -> None:
        if self._observer is not None:
            self._observer(verb, resource.plural, status)


_METHODS = {
    "get": "GET",
    "list": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
}


class _TooLarge(Exception):
    """An answer has more bytes than were asked for."""


async def _read(response: aiohttp.ClientResponse, most_bytes: int | None) -> bytes | None:
    """Return the answer, or None as soon as it has too many bytes."""
    if most_bytes is None:
        return await response.read()
    payload = bytearray()
    async for part in response.content.iter_any():
        payload += part
        if len(payload) > most_bytes:
            response.close()
            return None
    return bytes(payload)


@asynccontextmanager
async def _cutting_off(response: aiohttp.ClientResponse) -> AsyncIterator[None]:
    """End the response with its connection: one that is watched is not read to its end.

    Closing it in good order would wait for the other side's TLS goodbye, past the end of the loop.
    """
    try:
        yield
    finally:
        connection = response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        response.close()
