"""The way to Elasticsearch: one request, one answer, or one sentence that says why there is none.

`elastic_transport` alone, not the whole client: it asks for no product and raises for no status, so that
Elasticsearch 7.17 to 9 and OpenSearch share one path. It never sniffs and never retries; bytes pass through it
untouched. What it does raise becomes `Unknown` or `ParkAll` here, and leaves nothing behind that could hinder a
later success: certificates are read anew after every failed handshake. A host that cannot be reached is passed over,
and tried again after a second, then two, up to five; if all are, one is tried all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

import aiohttp
from elastic_transport import ConnectionTimeout, NodeConfig, TransportError

from mcp_ingest.context import Clock, SystemClock
from mcp_ingest.outputs.elasticsearch.access import Access, Answer
from mcp_ingest.outputs.elasticsearch.surroundings import Files, Names
from mcp_ingest.outputs.elasticsearch.transport import CONNECT_SECONDS, Pool, cause_of, is_not_connected
from mcp_ingest.verdict import ParkAll, Unknown

#: OpenSSL's codes for a chain that ends in nothing the client trusts: X509_V_ERR_*, in x509_vfy.h.
_NO_ISSUER = frozenset({2, 18, 19, 20, 21})
#: Seconds after which files and the addresses of names are looked at again.
LOOK_SECONDS, RESOLVE_SECONDS = 1.0, 30.0
_RESOLVE_TIMEOUT = 2.0


class Connection:
    """A pool of connections to the servers of an `Access`; every request ends after `seconds`.

    `hear` is told of a host, one of several, that no connection can be made to, and of one that answers again.
    What the access rests on is looked at now and then: when a certificate or a secret changes in its file, or a
    host's name loses an address, later requests go by a new pool.
    """

    def __init__(
        self,
        access: Access,
        seconds: float,
        clock: Clock | None = None,
        hear: Callable[[str, bool], None] | None = None,
    ) -> None:
        self._access = access
        self._hear = hear if len(access.hosts) > 1 else None
        self._away: set[str] = set()  # hosts
        self._seconds = seconds
        self._clock = clock or SystemClock()
        self._files = Files(access.files)
        self._names = Names([(host, port) for _, host, port in map(_address, access.hosts)])
        self._looked = self._clock.monotonic()  # at the files
        self._resolved = float("-inf")
        self._pool: Pool | None = None

    async def request(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer | Unknown | ParkAll:
        """Send one request once; the answer, whatever its status, or why there is none.

        A host to which no connection can be made got nothing: it is passed over for the next one.
        """
        await self._look_around()
        failure: Exception = ValueError("there is no host")
        for _ in self._access.hosts:
            try:
                pool = self._pool or self._open()
            except OSError as error:  # ssl.SSLError is one
                return ParkAll(f"{self._access.peer}: a certificate file cannot be read: {_line(error)}")
            answer = await self._ask(pool, method, target, body, headers or {})
            if isinstance(answer, Answer):
                if answer.status == 401 and self._access.headers() != pool.headers:
                    await self._renew(pool)
                return answer
            failure = answer
            await self._after(cause_of(answer), pool)
            if not is_not_connected(answer):
                break
        return self._failure(failure)

    async def _ask(
        self, pool: Pool, method: str, target: str, body: bytes | None, headers: dict[str, str]
    ) -> Answer | Exception:
        """The answer of one host, or what its transport raised."""
        every = {"accept": "application/json", **pool.headers}
        pool.enter()
        try:
            answer = await pool.transport.perform_request(
                method, target, body=body, headers={**every, **headers}, request_timeout=self._seconds
            )
        except (TransportError, aiohttp.ClientError, ValueError) as error:  # ValueError: a redirect to no URL
            return error
        finally:
            if self._hear is not None:
                self._notice(pool.away(), self._hear)
            await pool.leave()
        return Answer(answer.meta.status, answer.body or b"", answer.meta.headers.get("retry-after"))

    def _notice(self, away: dict[str, bool], hear: Callable[[str, bool], None]) -> None:
        for host, is_away in away.items():
            if is_away != (host in self._away):
                (self._away.add if is_away else self._away.discard)(host)
                hear(host, not is_away)

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.transport.close()

    def _open(self) -> Pool:
        context = self._context() if any(host.startswith("https:") for host in self._access.hosts) else None
        nodes = [self._node(host, context) for host in dict.fromkeys(self._access.hosts)]
        self._pool = Pool(nodes, self._access.headers())
        return self._pool

    def _node(self, host: str, context: ssl.SSLContext | None) -> NodeConfig:
        scheme, name, port = _address(host)
        return NodeConfig(
            scheme,
            name,
            port,
            path_prefix=urlsplit(host).path.strip("/"),
            connections_per_node=self._access.connections,
            ssl_context=context if scheme == "https" else None,
        )

    def _context(self) -> ssl.SSLContext:
        access = self._access
        context = ssl.create_default_context(cafile=access.ca_file)
        if not access.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if access.client_certificate is not None:
            context.load_cert_chain(access.client_certificate, access.client_key)
        return context

    # --- what changes under it ---

    async def _look_around(self) -> None:
        """Files every second, addresses every half minute, and only while requests come."""
        now = self._clock.monotonic()
        if now >= self._looked + LOOK_SECONDS:
            self._looked = now
            if self._files.changed() and self._pool is not None:
                await self._renew(self._pool)
        if now >= self._resolved + RESOLVE_SECONDS:
            self._resolved = now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._seconds, _RESOLVE_TIMEOUT)):
                    if await self._names.changed() and self._pool is not None:
                        await self._renew(self._pool)

    async def _renew(self, pool: Pool) -> None:
        """Let go of this pool, unless another request did; where a certificate cannot be read it stays in use."""
        if self._pool is not pool:
            return
        try:
            self._open()
        except OSError:  # gone or half written: the next change or failure looks again
            return
        await pool.retire()

    async def _after(self, cause: BaseException, pool: Pool) -> None:
        """TLS failed: certificates that changed are read at once; those of the system have no file to look at."""
        if isinstance(cause, ssl.SSLError | aiohttp.ClientSSLError) and (
            self._files.changed() or len(self._access.hosts) == 1
        ):
            await self._renew(pool)

    # --- what went wrong ---

    def _failure(self, error: Exception) -> Unknown | ParkAll:
        peer, cause = self._access.peer, cause_of(error)
        if isinstance(cause, aiohttp.ConnectionTimeoutError):
            return Unknown(f"{peer} cannot be reached within {CONNECT_SECONDS:g} s")
        if isinstance(error, ConnectionTimeout):
            return Unknown(f"{peer} did not answer within {self._seconds:g} s")
        if isinstance(cause, aiohttp.ClientConnectorCertificateError):
            return ParkAll(self._untrusted(cause.certificate_error))
        if isinstance(cause, aiohttp.ClientConnectorSSLError):
            return ParkAll(f"{peer} and we do not agree on TLS: {_line(cause.os_error)}")
        if isinstance(cause, aiohttp.ClientConnectorError):
            return Unknown(f"{peer} cannot be reached: {_line(cause.os_error)}")
        return Unknown(f"{peer} broke the connection: {_line(cause)}")

    def _untrusted(self, error: Exception) -> str:
        hint = "; set ca_file" if self._access.ca_file is None else f"; ca_file is {self._access.ca_file}"
        unknown_issuer = getattr(error, "verify_code", 0) in _NO_ISSUER
        reason = getattr(error, "verify_message", "") or _line(error)
        return f"the certificate of {self._access.peer} is not trusted: {reason}{hint if unknown_issuer else ''}"


def _address(host: str) -> tuple[str, str, int]:
    """Scheme, name and port of a URL."""
    url = urlsplit(host)
    return url.scheme, url.hostname or "localhost", url.port or (443 if url.scheme == "https" else 80)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if text else type(error).__name__
