"""The dead letters of a daemon that does not run, read from its spools."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import msgspec

from mcp_ingest.engine.folders import folder_of, workers_there
from mcp_ingest.errors import IngestError
from mcp_ingest.spool import SpoolReader
from mcp_ingest.web.all_letters import AllLetters
from mcp_ingest.web.letters import Order, Question, number_at, shown

_AT_ONCE = 2000


def answer(directory: str, verb: str, asked: Any) -> Any:
    """What `Letters` would answer: `verb` is its method, `asked` what it takes, as values of JSON."""
    base = Path(directory)
    spools = {index: StoppedLetters(folder_of(base, index)) for index in workers_there(base) or [0]}
    if verb != "letter":
        asked = msgspec.convert(asked, Question if verb in ("page", "groups") else Order)
    return asyncio.run(getattr(AllLetters(lambda: spools), verb)(asked))


class StoppedLetters:
    """`Letters` of one spool that nobody has open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def page(self, asked: Question) -> dict[str, Any]:
        """See `Letters`."""
        before, moment = asked.before, asked.died_before
        with SpoolReader(self._folder) as spool:
            if moment is not None:
                before = spool.look(lambda reader: number_at(reader, moment))
            return {"letters": [shown(each) for each in spool.letters(asked.limit, before, asked.selection())]}

    async def groups(self, asked: Question) -> dict[str, Any]:
        """See `Letters`."""
        with SpoolReader(self._folder) as spool:
            groups = [dataclasses.asdict(group) for group in spool.letter_groups(asked.selection())]
        return {"groups": groups, "count": len(groups)}

    async def letter(self, number: int) -> dict[str, Any] | None:
        """See `Letters`."""
        with SpoolReader(self._folder) as spool:
            found = spool.letter(number)
        return shown(found) if found else None

    async def preview(self, order: Order) -> dict[str, Any]:
        """See `Letters`; only the count: what a replay would do, a daemon knows."""
        with SpoolReader(self._folder) as spool:
            groups = spool.letter_groups(order.chosen())
        return {"count": sum(group.letters for group in groups), "previews": []}

    async def replay(self, order: Order) -> dict[str, Any]:
        """See `Letters`."""
        raise IngestError("no daemon runs, and it alone can replay: start it by `mcp-ingest run`")

    async def drop(self, order: Order) -> dict[str, Any]:
        """See `Letters`; a call begins at the first letter there is."""
        with SpoolReader(self._folder) as spool:
            count = spool.drop_letters(order.chosen(), _AT_ONCE)
        return {"count": count, "died": 0, "kept": [], "after": 0, "until": int(count == _AT_ONCE)}
