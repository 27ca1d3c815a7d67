"""The way to the server: one answer, or one sentence that says why there is none."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from mcp_ingest.config.substitute import Variables
from mcp_ingest.outputs.elasticsearch import ElasticsearchConfig
from mcp_ingest.outputs.elasticsearch.access import Access, Answer
from mcp_ingest.outputs.elasticsearch.connection import LOOK_SECONDS, RESOLVE_SECONDS, Connection
from mcp_ingest.verdict import ParkAll, Unknown
from tests.integration.servers import free_port
from tests.outputs.elasticsearch.faults import http, peer


async def ask(access: Access, seconds: float = 5.0) -> Answer | Unknown | ParkAll:
    connection = Connection(access, seconds)
    try:
        return await connection.request("POST", "/_bulk", b"{}\n", {"content-type": "application/x-ndjson"})
    finally:
        await connection.close()


async def test_an_answer_comes_back_as_it_is() -> None:
    """Status, bytes and `Retry-After` pass untouched, whatever the media type."""
    async with peer(lambda head: http(503, b"\xff not json", "retry-after: 7")) as server:
        assert await ask(Access((server.url,))) == Answer(503, b"\xff not json", "7")
    async with peer(lambda head: b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\nx") as server:
        assert await ask(Access((server.url,))) == Answer(200, b"x")


async def test_the_body_arrives_as_it_was_given() -> None:
    """The transport adds nothing to it, and sends the plain media type that every version takes."""
    async with peer(lambda head: http(200)) as server:
        await ask(Access((server.url + "/prefix/",)))
        head, body = server.asked[0]
    assert body == b"{}\n"
    assert head.startswith("POST /prefix/_bulk HTTP/1.1")
    assert "application/x-ndjson\r\n" in head
    assert "compatible-with" not in head


@pytest.mark.parametrize(
    ("access", "header", "login"),
    [
        ({}, None, "a request without credentials"),
        ({"username": "bob", "password": "ü:x"}, "Basic Ym9iOsO8Ong=", "user bob"),
        ({"api_key": "a2V5"}, "ApiKey a2V5", "the API key"),
    ],
)
async def test_credentials_are_sent(access: dict[str, str], header: str | None, login: str) -> None:
    """A user's or an API key's header goes with each request; a sentence names who asks, never the secret."""
    async with peer(lambda head: http(200)) as server:
        given = Access((server.url,), **access)  # type: ignore[arg-type]
        await ask(given)
    sent = [
        line.split(": ")[1] for line in server.asked[0][0].split("\r\n") if line.lower().startswith("authorization")
    ]
    assert sent == ([header] if header else [])
    assert given.login == login


async def test_credentials_in_the_url_are_used_and_never_shown() -> None:
    """`https://user:password@host` logs in; what we say of the server leaves them out."""
    async with peer(lambda head: http(200)) as server:
        access = Access((server.url.replace("//", "//bob:p%40ss@"),))
        await ask(access)
    assert "Basic Ym9iOnBAc3M=" in server.asked[0][0]
    assert access.peer == f"Elasticsearch at {server.url}"
    assert access.login == "user bob"


@pytest.mark.parametrize(
    "said",
    [b"", b"\x00\x01garbage", b"HTTP/1.1 200", http(200, b"{}", length=100), b"HTTP/1.1 999999 x\r\n\r\n",
     b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
     b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 307 X\r\nlocation: http://[\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"],
)  # fmt: skip
async def test_a_broken_answer_is_unknown(said: bytes) -> None:
    """Garbage, nothing, half an answer, a redirect to nowhere: nobody knows what became of the request."""
    async with peer(lambda head: said) as server:
        found = await ask(Access((server.url,)))
    assert isinstance(found, Unknown), found
    assert server.url in found.why


async def test_no_answer_ends_at_the_deadline() -> None:
    """A peer that takes the request and says nothing costs `seconds` and no more."""
    async with peer(lambda head: None) as server:
        found = await ask(Access((server.url,)), seconds=0.2)
    assert found == Unknown(f"Elasticsearch at {server.url} did not answer within 0.2 s")


async def test_a_refused_connection_is_unknown_and_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody listens: one sentence, and no line of log of the transport's own."""
    caplog.set_level(logging.DEBUG)
    found = await ask(Access((f"http://127.0.0.1:{free_port()}",)))
    assert isinstance(found, Unknown)
    assert "cannot be reached" in found.why
    assert not [record for record in caplog.records if record.name.startswith("elastic_transport")]


async def test_a_host_that_goes_and_comes_back_is_told_once() -> None:
    """Whoever asks hears of it, whatever the number of requests; of a single host it is the answer that says so."""
    heard: list[tuple[str, bool]] = []
    port = free_port()
    there = f"http://127.0.0.1:{port}"
    async with peer(lambda head: http(503, b"{}")) as server:
        connection = Connection(Access((there, server.url)), 5.0, None, lambda *said: heard.append(said))
        for _ in range(8):
            await connection.request("GET", "/")
        assert heard == [(there, False)]
        async with peer(lambda head: http(200, b"{}"), port=port):
            async with asyncio.timeout(20):
                while len(heard) < 2:
                    await connection.request("GET", "/")
                    await asyncio.sleep(0.05)
        await connection.close()
    assert heard == [(there, False), (there, True)]
    alone = Connection(Access((there,)), 5.0, None, lambda *said: heard.append(said))
    await alone.request("GET", "/")
    await alone.close()
    assert len(heard) == 2


async def test_one_of_three_hosts_is_enough() -> None:
    """A node that is away is passed over: every request is answered by the one that is there."""
    async with peer(lambda head: http(200, b"{}")) as server:
        away = [f"http://127.0.0.1:{free_port()}" for _ in range(2)]
        connection = Connection(Access((away[0], server.url, away[1])), 5.0)
        answers = [await connection.request("GET", "/") for _ in range(8)]
        await connection.close()
    assert answers == [Answer(200, b"{}")] * 8


async def test_a_host_that_is_back_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that could not be reached is tried again after a moment, without a restart."""
    monkeypatch.setattr("mcp_ingest.outputs.elasticsearch.transport.DEAD_SECONDS", 0.1)
    port = free_port()
    async with peer(lambda head: http(200, b"first")) as first:
        connection = Connection(Access((f"http://127.0.0.1:{port}", first.url)), 5.0)
        assert {(await connection.request("GET", "/"))[1] for _ in range(4)} == {b"first"}  # type: ignore[index]
        async with peer(lambda head: http(200, b"second"), port=port):
            await asyncio.sleep(0.2)
            found = {(await connection.request("GET", "/"))[1] for _ in range(6)}  # type: ignore[index]
        await connection.close()
    assert found == {b"first", b"second"}


async def test_a_host_that_took_the_request_is_not_passed_over() -> None:
    """What may have been stored goes to no second host behind delivery's back."""
    async with peer(lambda head: b"") as cutting, peer(lambda head: http(200)) as other:
        connection = Connection(Access((cutting.url, other.url)), 5.0)
        found = [await connection.request("POST", "/") for _ in range(2)]
        await connection.close()
    assert len(cutting.asked) == 1
    assert sorted(type(each).__name__ for each in found) == ["Answer", "Unknown"]


class _Time:
    """A clock that stands until it is told to go on."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return 0


async def test_a_name_whose_address_changes_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later requests go to the new address, though the old one still answers on its open connections."""
    loop, address = asyncio.get_running_loop(), "127.0.0.2"

    async def getaddrinfo(host: str, port: int, **_: int) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo, raising=False)
    clock, port = _Time(), free_port()
    alive = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"
    async with (
        peer(lambda head: alive + b"old", host="127.0.0.2", port=port),
        peer(lambda head: alive + b"new", host="127.0.0.3", port=port),
    ):
        connection = Connection(Access((f"http://es.test:{port}",)), 5.0, clock)
        assert await connection.request("GET", "/") == Answer(200, b"old")
        address = "127.0.0.3"
        clock.now = RESOLVE_SECONDS
        assert await connection.request("GET", "/") == Answer(200, b"new")
        await connection.close()


# --- TLS ---


def _server_context(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


async def test_an_untrusted_certificate_parks_and_heals(tmp_path: Path) -> None:
    """One sentence with the hint, then success by itself once the right authority stands in `ca_file`."""
    authority, other, file = trustme.CA(), trustme.CA(), tmp_path / "ca.pem"
    other.cert_pem.write_to_path(str(file))
    async with peer(lambda head: http(200, b"{}"), _server_context(authority)) as server:
        unset = await ask(Access((server.url,)))
        assert isinstance(unset, ParkAll)
        assert unset.why.startswith(f"the certificate of Elasticsearch at {server.url} is not trusted: ")
        assert unset.why.endswith("; set ca_file")
        connection = Connection(Access((server.url,), ca_file=str(file)), 5.0)
        wrong = await connection.request("GET", "/")
        assert isinstance(wrong, ParkAll)
        assert wrong.why.endswith(f"; ca_file is {file}")
        authority.cert_pem.write_to_path(str(file))
        await connection.request("GET", "/")  # still with what was read before; now it is read anew
        assert await connection.request("GET", "/") == Answer(200, b"{}")
        await connection.close()
        assert await ask(Access((server.url,), verify=False)) == Answer(200, b"{}")


async def test_a_certificate_that_is_changed_is_used_at_once(tmp_path: Path) -> None:
    """A rotated client certificate is shown by later requests, without a failure in between and without a restart."""
    authority, ours = trustme.CA(), tmp_path / "ours.pem"
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = _server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    shown: list[object] = []
    clock = _Time()
    async with peer(lambda head: http(200, b"{}"), context, shown=shown) as server:
        access = Access((server.url,), ca_file=str(tmp_path / "ca.pem"), client_certificate=str(ours))
        authority.issue_cert("first").private_key_and_cert_chain_pem.write_to_path(str(ours))
        connection = Connection(access, 5.0, clock)
        await connection.request("GET", "/")
        authority.issue_cert("second").private_key_and_cert_chain_pem.write_to_path(str(ours))
        clock.now += LOOK_SECONDS
        await connection.request("GET", "/")
        ours.write_text("half a certifi")
        clock.now += LOOK_SECONDS
        assert await connection.request("GET", "/") == Answer(200, b"{}")
        await connection.close()
    assert [str(names) for names in shown] == [f"(('DNS', '{name}'),)" for name in ("first", "second", "second")]


async def test_a_secret_that_is_changed_is_used(tmp_path: Path) -> None:
    """By a look at its file, or at once when the server answers 401; it is never shown."""
    file, clock, good = tmp_path / "secret", _Time(), "hunter-1"
    file.write_text("hunter-1\n")
    password, problems = Variables({}).put_into(f"${{file:{file}}}")
    assert problems == []

    def answer(head: str) -> bytes:
        expected = base64.b64encode(f"bob:{good}".encode()).decode()
        return http(200 if f"Basic {expected}\r\n" in head else 401, b"{}")

    async with peer(answer) as server:
        access = Access((server.url,), username="bob", password=password)
        connection = Connection(access, 5.0, clock)
        assert await connection.request("GET", "/") == Answer(200, b"{}")
        file.write_text("hunter-2\n")
        good = "hunter-2"
        assert await connection.request("GET", "/") == Answer(401, b"{}")  # and reads the file
        assert await connection.request("GET", "/") == Answer(200, b"{}")
        file.write_text("hunter-3\n")
        good = "hunter-3"
        clock.now += LOOK_SECONDS
        assert await connection.request("GET", "/") == Answer(200, b"{}")
        file.unlink()
        clock.now += LOOK_SECONDS
        assert await connection.request("GET", "/") == Answer(200, b"{}")
        await connection.close()
    assert "hunter" not in repr(access)
    assert "hunter" not in repr(ElasticsearchConfig(username="bob", password=password))


async def test_an_api_key_and_a_url_are_read_again_too(tmp_path: Path) -> None:
    """Wherever a secret may stand."""
    file = tmp_path / "secret"
    file.write_text("one")
    (key, _), (url, _) = (Variables({}).put_into(text % file) for text in ("${file:%s}", "http://bob:${file:%s}@es"))
    by_key, by_url = Access(("http://es",), api_key=key), Access((url,))
    assert by_key.files == by_url.files == (str(file),)
    file.write_text("two")
    assert by_key.headers() == {"authorization": "ApiKey two"}
    assert by_url.headers() == {"authorization": "Basic " + base64.b64encode(b"bob:two").decode()}


async def test_a_certificate_for_another_name_parks(tmp_path: Path) -> None:
    """The sentence says that the name does not fit, and does not send the reader to `ca_file`."""
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    async with peer(lambda head: http(200), _server_context(authority, "example.org")) as server:
        found = await ask(Access((server.url,), ca_file=str(file)))
    assert isinstance(found, ParkAll)
    assert "is not trusted" in found.why
    assert "ca_file" not in found.why


async def test_a_server_without_tls_parks() -> None:
    """`https` towards a plain port is a sentence about TLS."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(http(400))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        found = await ask(Access((f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}",)))
    assert isinstance(found, ParkAll)
    assert "do not agree on TLS" in found.why


async def test_a_certificate_file_that_cannot_be_read_parks(tmp_path: Path) -> None:
    """A missing or damaged file is a sentence, and is taken as soon as it is good."""
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    async with peer(lambda head: http(200, b"{}"), _server_context(authority)) as server:
        connection = Connection(Access((server.url,), ca_file=str(file)), 5.0)
        for content in (None, b"garbage"):
            if content is not None:
                file.write_bytes(content)
            found = await connection.request("GET", "/")
            assert isinstance(found, ParkAll)
            assert "a certificate file cannot be read" in found.why
        authority.cert_pem.write_to_path(str(file))
        assert await connection.request("GET", "/") == Answer(200, b"{}")
        await connection.close()


async def test_the_client_certificate_is_shown(tmp_path: Path) -> None:
    """A server that asks for a certificate gets ours."""
    authority, ours = trustme.CA(), tmp_path / "ours.pem"
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("ingest").private_key_and_cert_chain_pem.write_to_path(str(ours))
    context = _server_context(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    async with peer(lambda head: http(200, b"{}"), context) as server:
        access = Access((server.url,), ca_file=str(tmp_path / "ca.pem"))
        assert isinstance(await ask(access), Unknown | ParkAll)
        access = Access((server.url,), ca_file=str(tmp_path / "ca.pem"), client_certificate=str(ours))
        assert await ask(access) == Answer(200, b"{}")
