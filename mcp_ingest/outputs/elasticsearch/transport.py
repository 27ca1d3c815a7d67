"""`elastic_transport` as it is wanted here: bytes pass untouched, a dead address costs seconds, no retry of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import aiohttp
from elastic_transport import (
    AiohttpHttpNode,
    AsyncTransport,
    HttpHeaders,
    NodeConfig,
    Serializer,
    SerializerCollection,
    TransportError,
)
from elastic_transport.client_utils import DEFAULT, DefaultType

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection as Opened
    from aiohttp.tracing import Trace

#: Seconds in which a connection must stand: a machine that is switched off answers nothing at all.
CONNECT_SECONDS = 5.0
#: Seconds after which a host that could not be reached is tried again, at the most.
DEAD_SECONDS = 5.0


class Pool:
    """A transport, its headers, and how many requests use it: one that is replaced closes when the last has ended."""

    def __init__(self, nodes: Sequence[NodeConfig], headers: dict[str, str]) -> None:
        # A node that is away is delivery's to report, once; the transport would say it at every request.
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)
        self.transport = AsyncTransport(
            [*nodes], node_class=_Node, max_retries=0, meta_header=False, max_dead_node_backoff=DEAD_SECONDS
        )
        self.transport.serializers = _AnyMedia({_Bytes.mimetype: _Bytes()})
        self.headers = headers
        self._users = 0
        self._retired = False

    def away(self) -> dict[str, bool]:
        """Whether no connection could be made to a host when it was last tried; those that were not are left out."""
        nodes = [node for node in self.transport.node_pool.all() if isinstance(node, _Node)]
        return {node.base_url: node.away for node in nodes if node.away is not None}

    def enter(self) -> None:
        """A request uses it."""
        self._users += 1

    async def leave(self) -> None:
        """A request has ended."""
        self._users -= 1
        if self._retired and not self._users:
            await self.transport.close()

    async def retire(self) -> None:
        """Close when nothing uses it any more."""
        self._retired = True
        if not self._users:
            await self.transport.close()


def cause_of(error: Exception) -> BaseException:
    """What aiohttp said: the transport empties `errors` before it raises, but the exception has a context."""
    return error.__context__ if isinstance(error, TransportError) and error.__context__ else error


def is_not_connected(error: Exception) -> bool:
    """Whether no byte of the request has left."""
    return isinstance(cause_of(error), aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


class _Connector(aiohttp.TCPConnector):
    """The transport knows one time for the whole request; connecting gets its own."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout) -> Opened:
        return await super().connect(req, traces, aiohttp.ClientTimeout(timeout.total, sock_connect=CONNECT_SECONDS))


class _Node(AiohttpHttpNode):
    """Makes its session with that connector, and knows whether it could be reached."""

    away: bool | None = None

    async def perform_request(  # type: ignore[override]  # as the transport itself has it: its base is for threads
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: HttpHeaders | None = None,
        request_timeout: DefaultType | float | None = DEFAULT,
    ) -> Any:
        """The transport's way to a host."""
        try:
            answer = await super().perform_request(method, target, body, headers, request_timeout)
        except TransportError as error:
            self.away = is_not_connected(error)
            raise
        self.away = False
        return answer

    def _create_aiohttp_session(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.session = aiohttp.ClientSession(
            headers=self.headers,
            skip_auto_headers=("accept", "accept-encoding", "user-agent"),
            cookie_jar=aiohttp.DummyCookieJar(),
            connector=_Connector(limit_per_host=self._connections_per_node, ssl=self._ssl_context or False),
        )


class _Bytes(Serializer):
    """Bytes in, bytes out."""

    mimetype = "application/json"

    def loads(self, data: bytes) -> bytes:
        return data

    def dumps(self, data: bytes) -> bytes:
        return data


class _AnyMedia(SerializerCollection):
    """The same serializer for every media type: the transport's own raise on an answer that they do not know."""

    def get_serializer(self, mimetype: str | None) -> Serializer:
        return self.default_serializer
