"""Every exception of ours: one root, a sentence each, a type only where somebody reacts differently."""

from __future__ import annotations

import os


class IngestError(Exception):
    """The root: catching this catches what mcp-ingest itself raises, and no bug."""


class DecodeError(IngestError):
    """Bytes are not what their protocol says; nothing behind them on that connection can be trusted."""


class DamagedChunkError(DecodeError):
    """A chunk of the spool cannot be read: it goes into quarantine; `number` is its number."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"chunk {number} cannot be read: {why}")
        self.number = number


class TooLargeError(DecodeError):
    """A declared or decompressed length is over the limit; nothing of it was decoded."""


class StageError(IngestError):
    """A stage cannot process this event; the event meets the stage's `on_error`."""


class ConfigError(IngestError):
    """The configuration is wrong; `problems` has every mistake, each with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AddressTakenError(IngestError):
    """An input cannot listen because somebody else does; a reload tries again once the old inputs have ended."""


class StreamBrokenError(IngestError):
    """An emit of this stream failed before: go back to what is committed and open a new `Stream`."""


class SpoolError(IngestError):
    """A commit failed and nothing of it is durable; the caller may go back and try again."""


class SpoolFullError(SpoolError):
    """The spool (or its disk) is full and the policy does not let the caller wait."""


class SpoolDamagedError(SpoolError):
    """The spool's database cannot go on as it is: it is to be set aside, and what can be read of it saved."""


class SpoolDiskError(SpoolError):
    """The disk refuses for now (read-only, full, an I/O error): trying again later makes sense."""


class SpoolRenewedError(SpoolError):
    """The spool has a new database in place of a damaged one: begin anew from what is committed there."""


class LetterGoneError(SpoolError):
    """A dead letter that was to be replayed is no longer there: replayed by another, dropped, or expired meanwhile."""


class OutputError(IngestError):
    """An output cannot be made ready; the sentence says why, delivery tries again."""


class QueryError(IngestError):
    """A search text is not Lucene syntax, or uses a part of it that is not supported."""


def refusal(error: OSError) -> str:
    """What the system said, without what asyncio puts around it: `Address already in use`."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
