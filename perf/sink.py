"""A server that answers like Elasticsearch 8.19 to what a log shipper asks of it, and keeps nothing but sums.

    python -m perf.sink [--port 0] [--delay S] [--refuse SHARE --status 429|503|item429] [--check-ids] [--latency]

The first line it prints is `{"port": N}`. `GET /_perf` tells what arrived since the start or the last `DELETE /_perf`:

    documents       stored, that is answered with 201; what was refused is not among them
    distinct        different `_id`s among them, and
    doubles         documents whose `_id` had been stored before; both null without `--check-ids`
    requests        bulk requests, with the refused ones; `refused` counts what was refused: requests, or items
    bytes           of their bodies as they came over the wire; `inflated_bytes` once inflated
    seconds         from the first bulk request's arrival to the last one's
    cpu_seconds     of this process
    latency         p50, p99 and max of arrival minus the document's `sent_ns`, in seconds, to 10 µs; null without

`--refuse 0.1` refuses every tenth request (`item429`: every tenth document), evenly, not by chance; nothing of a
refused request is stored. `--delay` holds back each bulk answer, not the arrival of others. `filter_path` is honoured
as Elasticsearch does; a `_id` that comes twice is counted and answered with 201, not with 409.

Cost: bodies of 5,000 events by four connections took 0.75 floors of CPU an event (1.9 µs where `perf.floor` was 2.6),
490,000 events/s; with the items' statuses asked for 0.9 floors, with `--check-ids` or `--latency` 1.5. Only an answer
with each `_id` (no `filter_path`) or `item429` takes 3.6, 100,000 events/s. Each `_id` checked is held, in 110 bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, NamedTuple, cast
from urllib.parse import parse_qs, urlsplit

import orjson
import uvloop
from isal import igzip, isal_zlib

from perf.arguments import share

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.I)
_GZIP = re.compile(rb"\r\ncontent-encoding: *gzip", re.I)
_INDEX = re.compile(rb'"_index": ?"([^"]*)"')
_TARGET = re.compile(rb'\{"create": ?\{"_index": ?"([^"]*)"')  # without a `^`, which makes it five times as slow
_ID = re.compile(rb'"_id": ?"([^"]+)"[^{}\n]*\}\}\n')
_SENT = re.compile(rb'"sent_ns": ?(\d+)')
_REASONS = {200: b"OK", 404: b"Not Found", 411: b"Length Required", 429: b"Too Many Requests"}
_TOP = frozenset({"took", "errors"})
_ITEM = frozenset({"_index", "_id", "_version", "result", "_shards", "_seq_no", "_primary_term", "status", "error"})
_REJECTED = {"type": "es_rejected_execution_exception", "reason": "rejected execution of coordinating operation"}
_ABOUT = {
    "name": "sink",
    "cluster_name": "perf",
    "cluster_uuid": "AAAAAAAAAAAAAAAAAAAAAA",
    "version": {
        "number": "8.19.0",
        "build_flavor": "default",
        "build_type": "tar",
        "build_snapshot": False,
        "lucene_version": "9.12.2",
        "minimum_wire_compatibility_version": "7.17.0",
        "minimum_index_compatibility_version": "7.0.0",
    },
    "tagline": "You Know, for Search",
}
_STEP_NS = 10_000  # of the histogram of latencies


class Settings(NamedTuple):
    """What the command line says."""

    delay: float = 0.0
    refuse: float = 0.0
    status: str = "429"
    check_ids: bool = False
    latency: bool = False


class Answer(NamedTuple):
    """Status, body, and the seconds to hold it back."""

    status: int
    body: bytes
    delay: float = 0.0


# --- what arrived ------------------------------------------------------------------------------------------


class Sums:
    """What arrived since this was made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cpu = time.process_time()
        self._first = self._last = 0.0
        self._ids: set[bytes] = set()
        self._latencies: Counter[int] = Counter()
        self._with_id = 0
        self.documents = self.requests = self.refused = self.bytes = self.inflated_bytes = 0

    def arrived(self, size: int) -> None:
        """A bulk request of so many bytes."""
        self._last = time.monotonic()
        self._first = self._first or self._last
        self.requests += 1
        self.bytes += size

    def stored(self, body: bytes, count: int) -> None:
        """The documents of this bulk body."""
        self.documents += count
        self.inflated_bytes += len(body)
        if self._settings.check_ids:
            found = _ID.findall(body)
            self._with_id += len(found)
            self._ids.update(found)
        if self._settings.latency:
            now = time.time_ns()
            self._latencies.update([(now - int(sent)) // _STEP_NS for sent in _SENT.findall(body)])

    def report(self) -> dict[str, Any]:
        """As the module says."""
        checked = self._settings.check_ids
        return {
            "documents": self.documents,
            "distinct": len(self._ids) if checked else None,
            "doubles": self._with_id - len(self._ids) if checked else None,
            "requests": self.requests,
            "refused": self.refused,
            "bytes": self.bytes,
            "inflated_bytes": self.inflated_bytes,
            "seconds": self._last - self._first,
            "cpu_seconds": time.process_time() - self._cpu,
            "latency": self._quantiles(),
        }

    def _quantiles(self) -> dict[str, float] | None:
        total = self._latencies.total()
        if not total:
            return None
        steps, seen = sorted(self._latencies.items()), 0
        found = {"p50": 0.0, "p99": 0.0, "max": steps[-1][0] * _STEP_NS / 1e9}
        for step, count in steps:
            for name, part in (("p50", 0.50), ("p99", 0.99)):
                if seen < part * total <= seen + count:
                    found[name] = step * _STEP_NS / 1e9
            seen += count
        return found


# --- what is answered --------------------------------------------------------------------------------------


class Server:
    """Answers requests; one for all connections."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._templates: dict[str, bytes] = {}
        self._owed = 0.0  # refusals that are due: at 1 the next is refused
        self.sums = Sums(settings)

    def answer(self, method: str, target: str, body: bytes, gzipped: bool) -> Answer:
        """What Elasticsearch would say."""
        path = urlsplit(target).path.rstrip("/")
        if path.endswith("/_bulk"):
            return self._bulk(path, target, body, gzipped)
        if path == "/_perf":
            if method == "DELETE":
                self.sums = Sums(self._settings)
            return Answer(200, orjson.dumps(self.sums.report()))
        if method in ("PUT", "POST"):  # templates, policies
            self._templates[path] = body
            return Answer(200, b'{"acknowledged":true}')
        if path == "":
            return Answer(200, orjson.dumps(_ABOUT))
        known = path in self._templates
        return Answer(200, b"{}") if known else _error(404, "resource_not_found_exception", f"[{path}] not found")

    def _bulk(self, path: str, target: str, body: bytes, gzipped: bool) -> Answer:
        settings, sums = self._settings, self.sums
        sums.arrived(len(body))
        if settings.refuse and settings.status != "item429" and self._due():
            sums.refused += 1
            return _error(int(settings.status), _REJECTED["type"], _REJECTED["reason"], settings.delay)
        body = _inflated(body) if gzipped else body
        keys, named = _asked(target), path.removesuffix("/_bulk")[1:]
        if settings.refuse and settings.status == "item429":
            return Answer(200, self._some_refused(body, keys, named), settings.delay)
        count = body.count(b"\n") // 2
        sums.stored(body, count)
        if "_id" in keys:
            return Answer(200, _items(_actions(body, named), keys), settings.delay)
        index = _one_index(body, count, named) if "_index" in keys else b""
        if index is not None:
            return Answer(200, _all_created(index, count, keys), settings.delay)
        indices = _TARGET.findall(body)
        if len(indices) != count:
            return Answer(200, _items(_actions(body, named), keys), settings.delay)
        return Answer(200, _each_created(indices, keys), settings.delay)

    def _some_refused(self, body: bytes, keys: frozenset[str], named: str) -> bytes:
        lines = body.split(b"\n")
        actions, documents = lines[0:-1:2], lines[1::2]
        refused = {number for number in range(len(actions)) if self._due()}
        kept = [number for number in range(len(actions)) if number not in refused]
        self.sums.refused += len(refused)
        self.sums.stored(b"".join(actions[n] + b"\n" + documents[n] + b"\n" for n in kept), len(kept))
        return _items(_actions(body, named), keys, refused)

    def _due(self) -> bool:
        self._owed += self._settings.refuse
        if self._owed < 1 - 1e-9:
            return False
        self._owed -= 1
        return True


def _error(status: int, kind: str, reason: str, delay: float = 0.0) -> Answer:
    cause = {"type": kind, "reason": reason}
    return Answer(status, orjson.dumps({"error": {"root_cause": [cause], **cause}, "status": status}), delay)


def _inflated(body: bytes) -> bytes:
    """What a gzip body holds. Its end says how much that is, if it is one member: room for it is got at once."""
    inflater = isal_zlib.decompressobj(31)
    found = inflater.decompress(body, int.from_bytes(body[-4:], "little") + 1)
    if inflater.eof and not inflater.unused_data:
        return bytes(found)
    return bytes(igzip.decompress(body))  # type: ignore[no-untyped-call]


# --- the answer to a bulk request --------------------------------------------------------------------------


@cache
def _asked(target: str) -> frozenset[str]:
    """The names, of the whole answer and of its items, that the request's `filter_path` lets through."""
    given = parse_qs(urlsplit(target).query).get("filter_path")
    if given is None:
        return _TOP | _ITEM
    paths = [path.split(".") for path in given[0].split(",")]
    top = {name for name in _TOP for path in paths if fnmatchcase(name, path[0])}
    items = [path for path in paths if fnmatchcase("items", path[0])]
    return frozenset(top | {name for name in _ITEM for path in items if len(path) < 3 or fnmatchcase(name, path[2])})


def _one_index(body: bytes, count: int, named: str) -> bytes | None:
    """The index that all of them go to, which the request may have named for those that do not; None for a mixture."""
    first = _INDEX.search(body, 0, body.find(b"\n"))
    if first is None:
        return named.encode() if named and b'"_index"' not in body else None
    return first[1] if body.count(first[0]) == count else None


def _actions(body: bytes, named: str) -> list[dict[str, dict[str, str]]]:
    """Each operation with its target; the request names the index of those that do not."""
    actions = [orjson.loads(line) for line in body.split(b"\n")[0:-1:2]]
    return [{operation: {"_index": named, **target} for operation, target in each.items()} for each in actions]


@cache
def _one_created(index: bytes, keys: frozenset[str]) -> bytes:
    return orjson.dumps({"create": _item({"_index": index.decode()}, keys, refused=False)})


def _all_created(index: bytes, count: int, keys: frozenset[str]) -> bytes:
    item = _one_created(index, keys)
    items = b"" if item == b'{"create":{}}' else b",".join([item] * count)
    return _whole(items, keys, errors=False)


def _each_created(indices: list[bytes], keys: frozenset[str]) -> bytes:
    made = {index: _one_created(index, keys) for index in set(indices)}
    return _whole(b",".join([made[index] for index in indices]), keys, errors=False)


def _items(actions: list[dict[str, dict[str, str]]], keys: frozenset[str], refused: set[int] | None = None) -> bytes:
    refused = refused or set()
    named = [
        {operation: _item(target, keys, refused=number in refused)}
        for number, action in enumerate(actions)
        for operation, target in action.items()
    ]
    shown = [item for item in named if any(item.values())]
    return _whole(orjson.dumps(shown)[1:-1], keys, errors=bool(refused))


def _item(target: dict[str, str], keys: frozenset[str], *, refused: bool) -> dict[str, Any]:
    whole: dict[str, Any] = {"_index": target["_index"], "_id": target.get("_id", "AAAAAAAAAAAAAAAAAAAA")}
    if refused:
        whole |= {"status": 429, "error": _REJECTED}
    else:
        shards = {"total": 2, "successful": 1, "failed": 0}
        whole |= {"_version": 1, "result": "created", "_shards": shards, "_seq_no": 0, "_primary_term": 1}
        whole |= {"status": 201}
    return {name: value for name, value in whole.items() if name in keys}


def _whole(items: bytes, keys: frozenset[str], *, errors: bool) -> bytes:
    parts = [b'"errors":true' if errors else b'"errors":false'] if "errors" in keys else []
    parts += [b'"took":1'] if "took" in keys else []
    parts += [b'"items":[' + items + b"]"] if items else []
    return b"{" + b",".join(parts) + b"}"


# --- HTTP/1.1 ----------------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """Requests one after another, each with its length; a second one waits for the first one's answer."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._received = bytearray()
        self._needed = 0  # bytes of the request that is coming in, once its head is there
        self._answering = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._go_on()

    def _go_on(self) -> None:
        while not self._answering and len(self._received) >= max(self._needed, 1):
            end = self._received.find(b"\r\n\r\n") + 4
            if end == 3:
                return
            head = bytes(self._received[:end])
            length = _LENGTH.search(head)
            size = int(length[1]) if length else 0
            if not self._needed and b"100-continue" in head:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._needed = end + size
            if len(self._received) < self._needed:
                return
            body = bytes(memoryview(self._received)[end : self._needed])
            del self._received[: self._needed]
            self._needed = 0
            self._request(head, body)

    def _request(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
        if b"\r\ntransfer-encoding:" in head.lower():
            answer = _error(411, "illegal_argument_exception", "this sink takes no chunked requests")
        else:
            answer = self._server.answer(method, target, body, _GZIP.search(head) is not None)
        if answer.delay:
            self._answering = True
            asyncio.get_running_loop().call_later(answer.delay, self._send_late, method, answer)
        else:
            self._send(method, answer)

    def _send_late(self, method: str, answer: Answer) -> None:
        self._answering = False
        self._send(method, answer)
        self._go_on()

    def _send(self, method: str, answer: Answer) -> None:
        reason = _REASONS.get(answer.status, b"Service Unavailable")
        self._transport.write(
            b"HTTP/1.1 %d %s\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s"
            % (answer.status, reason, len(answer.body), b"" if method == "HEAD" else answer.body)
        )


async def serve(settings: Settings, port: int, ready: Callable[[int], None]) -> None:
    """Listen on localhost until cancelled; `ready` is told the port."""
    server = Server(settings)
    listening = await asyncio.get_running_loop().create_server(lambda: _Connection(server), "127.0.0.1", port)
    ready(listening.sockets[0].getsockname()[1])
    async with listening:
        await listening.serve_forever()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds to hold back each bulk answer")
    parser.add_argument("--refuse", type=share, default=0.0, help="share of the requests or items to refuse")
    parser.add_argument("--status", choices=("429", "503", "item429"), default="429")
    parser.add_argument("--check-ids", action="store_true")
    parser.add_argument("--latency", action="store_true")
    given = parser.parse_args()
    settings = Settings(given.delay, given.refuse, given.status, given.check_ids, given.latency)

    def ready(port: int) -> None:
        sys.stdout.write(json.dumps({"port": port}) + "\n")
        sys.stdout.flush()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, given.port, ready))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
