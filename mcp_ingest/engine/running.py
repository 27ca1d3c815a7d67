"""One input at work: started again when it fails, until it is told to end."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import Callable

from mcp_ingest.component import Emit, Input
from mcp_ingest.config.model import ComponentConfig
from mcp_ingest.context import Context
from mcp_ingest.engine import letters
from mcp_ingest.engine.parts import build
from mcp_ingest.engine.retry import pause
from mcp_ingest.errors import IngestError
from mcp_ingest.event import describe


class RunningInput:
    """An input of the configuration, built; `run` is its task.

    `where` is what it listens on, None while it does not; `listened` says that it did once. `failed` is why it could
    not even start: then `run` has returned. `heard` is called whenever one of these changes.
    """

    def __init__(self, config: ComponentConfig, context: Context, heard: Callable[[], None]) -> None:
        self.name = config.name
        self.where: str | None = None
        self.listened = False
        self.failed: IngestError | None = None
        self.input: Input = build("input", config, dataclasses.replace(context, ready=self._is_ready))
        self.heard = heard
        self._log = context.logger
        self._ending = False

    async def run(self, emit: Emit) -> None:
        """Run the input until `end`; one that cannot even start is not tried again."""
        for attempt in itertools.count(1):
            try:
                await self.input.run(emit)
            except Exception as caught:  # whatever it was, it is said, and it is tried again where that makes sense
                error = _innermost(caught)
                if not self.listened:
                    sentence = f"input {self.name}: {describe(error)}"
                    self.failed = error if isinstance(error, IngestError) else IngestError(sentence)
                    self.heard()
                    return
                why = letters.safe_text(describe(error))
                self._log.exception("input %s failed and is started again: %s", self.name, why)
            self.where = None  # it left by itself
            if self._ending:
                return
            await asyncio.sleep(pause(attempt))

    def begin(self) -> None:
        """It is about to be run, for the first time or again."""
        self._ending, self.failed = False, None

    def end(self) -> None:
        """It is about to be cancelled: do not start it again."""
        self._ending, self.where = True, None

    def _is_ready(self, where: str) -> None:
        self.where, self.listened = where, True
        self.heard()


def _innermost(error: BaseException) -> BaseException:
    """What a task group of one task wraps up."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
