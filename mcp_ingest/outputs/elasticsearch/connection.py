"""The way to Elasticsearch: one request, one answer, or one sentence that says why there is none.

`elastic_transport` alone, not the whole client: it asks for no product and raises for no status, so that
Elasticsearch 7.17 to 9 and OpenSearch share one path. It never sniffs and never retries; bytes pass through it
untouched. What it does raise becomes `Unknown` or `ParkAll` here, and leaves nothing behind that could hinder a
later success: certificates are read anew after every failed handshake.
"""

from __future__ import annotations

import logging
import ssl
from urllib.parse import urlsplit

import aiohttp
from elastic_transport import (
    AsyncTransport,
    ConnectionTimeout,
    NodeConfig,
    Serializer,
    SerializerCollection,
    TransportError,
)

from mcp_ingest.outputs.elasticsearch.access import Access, Answer
from mcp_ingest.verdict import ParkAll, Unknown

#: OpenSSL's codes for a chain that ends in nothing the client trusts: X509_V_ERR_*, in x509_vfy.h.
_NO_ISSUER = frozenset({2, 18, 19, 20, 21})


class Connection:
    """A pool of connections to the servers of an `Access`; every request ends after `seconds`."""

    def __init__(self, access: Access, seconds: float) -> None:
        self._access = access
        self._seconds = seconds
        self._headers = access.headers()
        self._tls: ssl.SSLContext | None = None
        self._transport: AsyncTransport | None = None
        # A node that is away is delivery's to report, once; the transport would say it at every request.
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)

    async def request(
        self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer | Unknown | ParkAll:
        """Send one request once; the answer, whatever its status, or why there is none."""
        try:
            transport = self._transport or self._open()
        except OSError as error:  # ssl.SSLError is one
            return ParkAll(f"{self._access.peer}: a certificate file cannot be read: {_line(error)}")
        try:
            answer = await transport.perform_request(
                method,
                target,
                body=body,
                headers={"accept": "application/json", **self._headers, **(headers or {})},
                request_timeout=self._seconds,
            )
        except (TransportError, aiohttp.ClientError, ValueError) as error:  # ValueError: a redirect to no URL
            return self._failure(error)
        return Answer(answer.meta.status, answer.body or b"", answer.meta.headers.get("retry-after"))

    async def close(self) -> None:
        """Close the connections; a later request opens new ones."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    def _open(self) -> AsyncTransport:
        nodes = [self._node(host) for host in self._access.hosts]
        transport = AsyncTransport(nodes, max_retries=0, meta_header=False, max_dead_node_backoff=5.0)
        transport.serializers = _AnyMedia({_Bytes.mimetype: _Bytes()})
        self._transport = transport
        return transport

    def _node(self, host: str) -> NodeConfig:
        url = urlsplit(host)
        secure = url.scheme == "https"
        return NodeConfig(
            url.scheme,
            url.hostname or "localhost",
            url.port or (443 if secure else 80),
            path_prefix=url.path.strip("/"),
            connections_per_node=self._access.connections,
            ssl_context=self._context() if secure else None,
        )

    # --- TLS ---

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            context = ssl.create_default_context(cafile=self._access.ca_file)
            if not self._access.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            self._load_client_certificate(context)
            self._tls = context
        return self._tls

    def _load_client_certificate(self, context: ssl.SSLContext) -> None:
        if self._access.client_certificate is not None:
            context.load_cert_chain(self._access.client_certificate, self._access.client_key)

    def _read_anew(self) -> None:
        """Take what stands in the certificate files now; connections that are open keep what they have."""
        if self._tls is None:
            return
        try:
            if self._access.ca_file is not None:
                self._tls.load_verify_locations(cafile=self._access.ca_file)
            self._load_client_certificate(self._tls)
        except OSError:  # gone or half written: the next failure looks again
            return

    # --- what went wrong ---

    def _failure(self, error: Exception) -> Unknown | ParkAll:
        peer = self._access.peer
        # The transport empties `errors` before it raises; what aiohttp said stays as the exception's context.
        cause = error.__context__ if isinstance(error, TransportError) and error.__context__ else error
        if isinstance(error, ConnectionTimeout):
            return Unknown(f"{peer} did not answer within {self._seconds:g} s")
        if isinstance(cause, ssl.SSLError | aiohttp.ClientOSError):
            self._read_anew()
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


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if text else type(error).__name__
