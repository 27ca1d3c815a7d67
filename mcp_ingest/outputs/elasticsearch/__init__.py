"""Delivers events to Elasticsearch or OpenSearch, each exactly once in a daily index.

Every event is created under its own `_id`, so that a repeated request stores nothing twice: the answer 409 counts
as `duplicate`. The index is chosen by the event's time; what is dated 30 days before its receipt or a day after it
goes to the index `…undated`. Works with Elasticsearch 7.17 to 9 and OpenSearch 1 to 3 by one path: plain
`application/x-ndjson`, no sniffing, no product check, no retry of its own.

When not: where duplicates across a data stream's rollover cannot be borne, use the daily index; Elasticsearch checks
an `_id` in the stream's newest index only.

Guarantees: a request ends after `request_seconds`. An event is delivered, a duplicate, redirected (failure store),
refused with Elasticsearch's reason, or waits; a closed, blocked, forbidden or missing index holds up no other. A wrong
password or an untrusted certificate parks the output with one sentence, and it goes on by itself once that is put
right: secrets from `${file:…}` and certificates are read again when their files change. Of several hosts a dead one is
passed over and tried again, with a line of log when it goes and one when it is back; names are looked up again every
half minute.

Metrics: `mcp_ingest_output_events_total`, `mcp_ingest_delivery_seconds`, `mcp_ingest_retries_total`,
`mcp_ingest_output_concurrency`, `mcp_ingest_output_parked_destinations` of this output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from urllib.parse import quote, urlsplit

import msgspec
import orjson
from msgspec import Meta

from mcp_ingest.codecs.bulk import ENTRY_BYTES, FILTER_PATH, bulk_body, bulk_error
from mcp_ingest.codecs.compression import compress_gzip
from mcp_ingest.codecs.segments import gzip_body
from mcp_ingest.component import ByteSize, Duration, Example, Output, OutputSettings, Settings
from mcp_ingest.context import Context
from mcp_ingest.errors import OutputError
from mcp_ingest.event import Batch
from mcp_ingest.outputs.elasticsearch.access import Access, Answer
from mcp_ingest.outputs.elasticsearch.address import addresser, index_pattern, template_problem
from mcp_ingest.outputs.elasticsearch.template import Template, adapted, index_template
from mcp_ingest.outputs.elasticsearch.verdicts import verdicts
from mcp_ingest.verdict import Part, Request, Verdicts

if TYPE_CHECKING:
    from mcp_ingest.outputs.elasticsearch.connection import Connection

DAILY_INDEX = "mcp-logs-{@timestamp:%Y.%m.%d}"
#: Bodies below this many bytes fit one packet and are sent as they are.
_WORTH_COMPRESSING = 1400
#: Delivery gives up this many seconds after the request itself would have.
_GRACE_SECONDS = 5.0
#: The server is to wait for a missing shard or mapping no longer than this part of a request's time.
_PATIENCE_PART = 3


class ElasticsearchConfig(OutputSettings):
    """Where to send, as whom, under which names."""

    hosts: Annotated[
        list[str],
        Meta(min_length=1, description="URLs of the nodes; requests go round. May carry `user:password@`."),
    ] = msgspec.field(default_factory=lambda: ["http://localhost:9200"])
    username: Annotated[str | None, Meta(description="Who to log in as.")] = None
    password: Annotated[str | None, Meta(description="The user's password; best `${file:/run/secrets/…}`.")] = None
    api_key: Annotated[str | None, Meta(description="An API key as Elasticsearch encodes it, in place of a user.")] = (
        None
    )
    ca_file: Annotated[
        str | None, Meta(description="PEM file of the authority to trust; the system's authorities by default.")
    ] = None
    client_certificate: Annotated[str | None, Meta(description="PEM file of our own certificate.")] = None
    client_key: Annotated[str | None, Meta(description="PEM file of its key, if it is not in the same file.")] = None
    verify_certificate: Annotated[
        bool, Meta(description="`false` takes any certificate: anybody on the way can read the logs.")
    ] = True
    index: Annotated[
        str | None,
        Meta(description=f"Index of an event, with `{{field}}`, `{{tag}}`, `{{@timestamp:FORMAT}}`; `{DAILY_INDEX}`."),
    ] = None
    data_stream: Annotated[
        str | None, Meta(description="A data stream in place of an index, such as `logs-mcp-default`.")
    ] = None
    pipeline: Annotated[str | None, Meta(description="Ingest pipeline that Elasticsearch runs over each event.")] = None
    compression: Annotated[bool, Meta(description="Send requests as gzip.")] = True
    request_seconds: Annotated[Duration, Meta(description="Time after which a request is given up and repeated.")] = (
        msgspec.field(default_factory=lambda: Duration(30))
    )
    concurrency: Annotated[
        int, Meta(ge=1, le=64, description="Requests in flight at the most; fewer while Elasticsearch is busy.")
    ] = 4
    max_request_bytes: Annotated[
        ByteSize, Meta(description="Bytes of one request's body at the most, before compression.")
    ] = msgspec.field(default_factory=lambda: ByteSize(5_000_000))
    template: Annotated[
        bool, Meta(description="Install the index template if there is none of its name; one that is there stays.")
    ] = True
    template_name: Annotated[
        str | None, Meta(description="The template's name; by default what the index's name begins with.")
    ] = None
    shards: Annotated[
        Annotated[int, Meta(ge=1)] | None, Meta(description="Primary shards in the template; the server's default.")
    ] = None
    replicas: Annotated[
        Annotated[int, Meta(ge=0)] | None, Meta(description="Replicas in the template; the server's default.")
    ] = None

    def check(self) -> list[str]:
        """What the types cannot say."""
        problems = super().check()
        problems += [problem for host in self.hosts if (problem := _host_problem(host))]
        if self.username is not None and self.api_key is not None:
            problems.append("api_key: give a username or an API key, not both")
        if self.password is not None and self.username is None:
            problems.append("password: needs a username")
        if self.client_key is not None and self.client_certificate is None:
            problems.append("client_key: needs a client_certificate")
        if self.index is not None and self.data_stream is not None:
            problems.append("data_stream: give an index or a data stream, not both")
        for name, template in (("index", self.index), ("data_stream", self.data_stream)):
            problem = template_problem(template) if template is not None else None
            problems += [f"{name}: {template!r} {problem}"] if problem else []
        return problems

    @property
    def address(self) -> str:
        """The template of the names that events go to."""
        return self.data_stream or self.index or DAILY_INDEX


def _host_problem(host: str) -> str | None:
    try:
        url = urlsplit(host)
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # a port that is no number
        good = False
    return None if good else f"hosts: {host.rpartition('@')[2]!r} is not a URL such as https://localhost:9200"


class Elasticsearch(Output):
    """See the module."""

    Config: ClassVar[type[Settings]] = ElasticsearchConfig
    EXAMPLES: ClassVar[Sequence[Example]] = (
        Example("An index for each day on this machine", {}),
        Example(
            "With TLS, a password and an authority of one's own",
            {
                "hosts": ["https://es1:9200", "https://es2:9200"],
                "username": "mcp_ingest",
                "password": "${file:/run/secrets/elastic}",
                "ca_file": "/etc/mcp-ingest/ca.pem",
            },
        ),
        Example("A data stream", {"data_stream": "logs-mcp-default"}),
        Example("An index for each service", {"index": "mcp-{service_name}-{@timestamp:%Y.%m.%d}", "replicas": 0}),
    )

    def __init__(self, config: Any, context: Context) -> None:
        super().__init__(config, context)
        self.concurrency = config.concurrency
        self.max_request_bytes = config.max_request_bytes
        self.deadline = config.request_seconds + _GRACE_SECONDS
        self._access = _access(config)
        self._connection: Connection | None = None
        self._addresser = addresser(config.address)
        pipeline = f"&pipeline={quote(config.pipeline, safe='')}" if config.pipeline else ""
        # A missing shard is to be an answer for its own events, not a timeout for all that stand beside them.
        patience = f"&timeout={max(1, int(config.request_seconds * 1000 / _PATIENCE_PART))}ms"
        self._bulk = f"/_bulk?filter_path={FILTER_PATH}{patience}{pipeline}"

    def address(self, batch: Batch) -> list[str]:
        """The index or data stream of each event."""
        return self._addresser.address(batch)

    def bytes_beside(self, destination: str) -> int:
        """The action with its index, and line ends."""
        return ENTRY_BYTES + len('"_index":"",') + len(destination.encode())

    async def write(self, request: Request) -> Verdicts:
        """One `_bulk` request; see `verdicts` for what its answer means."""
        target, body, headers = self._request(request.parts)
        answer = await self._open().request("POST", target, body, headers)
        if not isinstance(answer, Answer):
            return answer
        peer, login = self._access.peer, self._access.login
        now, after = self.context.clock.time_ns() / 1e9, answer.retry_after
        return verdicts(answer.status, answer.body, request.count, retry_after=after, now=now, peer=peer, login=login)

    def _request(self, parts: list[Part]) -> tuple[str, bytes, dict[str, str]]:
        """Path, body and headers: what is stored goes out as it is where all of it has one destination."""
        headers = {"content-type": "application/x-ndjson"}
        entries = [part.entries for part in parts if part.entries is not None]
        places = {place for part in parts for place in set(part.destinations)}
        if len(entries) == len(parts) and len(places) == 1 and self._pays(sum(each.length for each in entries)):
            headers["content-encoding"] = "gzip"
            return f"/{quote(places.pop(), safe='')}{self._bulk}", gzip_body(entries), headers
        body = bulk_body(
            [place for part in parts for place in part.destinations],
            [event_id for part in parts for event_id in part.ids],
            [line for part in parts for line in part.lines],
        )
        if self._pays(len(body)):
            headers["content-encoding"] = "gzip"
            body = compress_gzip(body)
        return self._bulk, body, headers

    def _pays(self, size: int) -> bool:
        return bool(self.config.compression) and size > _WORTH_COMPRESSING

    async def close(self) -> None:
        """Close the connections."""
        if self._connection is not None:
            await self._connection.close()

    def _open(self) -> Connection:
        """The connection; loaded with the first request, so that inputs listen a tenth of a second sooner."""
        if self._connection is None:
            from mcp_ingest.outputs.elasticsearch.connection import Connection

            seconds = float(self.config.request_seconds)
            self._connection = Connection(self._access, seconds, self.context.clock, self._hear)
        return self._connection

    def _hear(self, host: str, answers: bool) -> None:
        """One of several hosts is away or back: nobody else would notice that it is passed over."""
        if answers:
            self.context.logger.info("output %s: the host %s answers again", self.context.name, host)
        else:
            said = "output %s: no connection to the host %s: it is passed over"
            self.context.logger.warning(said, self.context.name, host)

    # --- the index template ---

    async def start(self) -> None:
        """Install the index template if it is missing; a server that is away makes this an `OutputError`."""
        if not self.config.template:
            return
        pattern = index_pattern(self.config.address)
        target = "/_index_template/" + quote(self.config.template_name or pattern.rstrip("*-._"), safe="")
        answer = await self._ask("GET", target)
        if answer.status == 404:
            answer = await self._install(target, pattern)
        if answer.status >= 300:
            self.context.logger.warning(
                "%s: the index template for %s is not installed, events go on without it: %s %s",
                self.context.name, pattern, answer.status, bulk_error(answer.body).text,
            )  # fmt: skip

    async def _install(self, target: str, pattern: str) -> Answer:
        config = self.config
        template: Template | None = index_template(
            pattern, data_stream=config.data_stream is not None, shards=config.shards, replicas=config.replicas
        )
        while template is not None:
            answer = await self._ask("PUT", target, template)
            template = adapted(template, answer.body.decode(errors="replace")) if answer.status == 400 else None
        return answer

    async def _ask(self, method: str, target: str, body: Template | None = None) -> Answer:
        """The answer of a server that is there and knows us; `OutputError` otherwise."""
        data = None if body is None else orjson.dumps(body)
        headers = {} if body is None else {"content-type": "application/json"}
        answer = await self._open().request(method, target, data, headers)
        if not isinstance(answer, Answer):
            raise OutputError(answer.why)
        if answer.status == 401 or answer.status == 429 or answer.status >= 500:
            said = f"{answer.status} {bulk_error(answer.body).text}".rstrip()
            peer, login = self._access.peer, self._access.login
            raise OutputError(f"{peer} refuses {login}: {said}" if answer.status == 401 else f"{peer} answered {said}")
        return answer


def _access(config: ElasticsearchConfig) -> Access:
    return Access(
        tuple(config.hosts),
        config.username,
        config.password,
        config.api_key,
        config.ca_file,
        config.client_certificate,
        config.client_key,
        config.verify_certificate,
        config.concurrency,
    )
