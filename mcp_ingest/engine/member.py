"""One worker as its supervisor sees it: started, listened to, started again when it ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from mcp_ingest.context import Clock
from mcp_ingest.engine.orders import Notice, Orders, packed
from mcp_ingest.engine.retry import pause
from mcp_ingest.errors import IngestError
from mcp_ingest.metrics import WORKER_RESTARTS, Metrics

#: Seconds after which a start counts as a success, so that the next pause is short again.
STEADY_SECONDS = 60.0


class Member:
    """A worker process. `run` is its task: until `stop`, or until it cannot even start, which raises IngestError.

    `heard` is called when `listening` changes: what its inputs listen on, None while they do not. `lives` counts how
    often it was started, `address` is where it answers questions, `spools` are the workers whose spools it has.
    """

    def __init__(
        self,
        command: Sequence[str],
        orders: Orders,
        clock: Clock,
        metrics: Metrics,
        logger: logging.Logger,
        heard: Callable[[], None],
    ) -> None:
        self.index = orders.index
        self.spools = (orders.index, *orders.orphans)
        self.listening: dict[str, str] | None = None
        self.lives = 0
        self._command = command
        self._http = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._orders = msgspec.structs.replace(orders, http=self._http.fileno())
        self.address = f"http://127.0.0.1:{self._http.getsockname()[1]}"
        self._clock = clock
        self._log = logger
        self._restarts = metrics.counter(WORKER_RESTARTS, worker=str(self.index))
        self._heard = heard
        self._process: asyncio.subprocess.Process | None = None
        self._failed: Notice | None = None
        self._listened = False
        self._stopping = asyncio.Event()
        self._asked: set[asyncio.Timeout] = set()

    @property
    def pid(self) -> int | None:
        """Its process, None while it has none."""
        return None if self._process is None else self._process.pid

    async def run(self) -> None:
        """See the class."""
        attempt = 0
        try:
            while not self._stopping.is_set():
                began = self._clock.monotonic()
                code = await self._live()
                if self._stopping.is_set():
                    return
                self._give_up(code)
                attempt = 1 if self._clock.monotonic() - began > STEADY_SECONDS else attempt + 1
                seconds = pause(attempt)
                self._restarts.inc()
                self._log.error("worker %d %s; it is started again in %.1f s", self.index, self._why(code), seconds)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), seconds)
        finally:
            self._http.close()

    def stop(self) -> None:
        """Let it end cleanly, and start it no more."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def reload(self) -> None:
        """Let it read its configuration again; one that is being started reads it anyway."""
        self._signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it at once."""
        self._signal(signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def asked(self, seconds: float) -> AsyncIterator[None]:
        """A question to it, in a block: TimeoutError after so many seconds, and at once when it ends meanwhile.

        Its listener is there without it: who asks then would wait until it is started again.
        """
        async with asyncio.timeout(seconds) as timeout:
            self._asked.add(timeout)
            try:
                yield
            finally:
                self._asked.discard(timeout)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _live(self) -> int:
        """One life, from its start to its end; the exit code."""
        ours, theirs = socket.socketpair()
        with theirs:
            inherited = (theirs.fileno(), self._orders.http, self._orders.lock)
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                "--worker",
                str(theirs.fileno()),
                pass_fds=inherited,
                stdin=asyncio.subprocess.DEVNULL,
                process_group=0,  # a Ctrl-C is for the supervisor, which passes it on
            )
        self.lives += 1
        self._failed = None
        if self._stopping.is_set():
            self._signal(signal.SIGTERM)
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            writer.write(packed(self._orders))
            with contextlib.suppress(OSError):  # it is gone already
                async for line in reader:
                    self._take(msgspec.json.decode(line, type=Notice))
            return await self._process.wait()
        finally:
            writer.close()
            self._process, self.listening = None, None
            for timeout in self._asked:
                timeout.reschedule(0)
            self._heard()

    def _take(self, notice: Notice) -> None:
        if notice.failed is not None:
            self._failed = notice
        else:
            self.listening, self._listened = notice.listening, True
            self._heard()

    def _give_up(self, code: int) -> None:
        """IngestError where it never came to listen, for a reason that the next time will not change."""
        if self._listened or code < 0:
            return
        said = self._failed.failed if self._failed is not None else None
        raise IngestError(said or f"worker {self.index} {self._why(code)}")

    def _why(self, code: int) -> str:
        if self._failed is not None and self._failed.failed:
            return f"ended: {self._failed.failed}"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
