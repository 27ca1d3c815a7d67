"""Which of several workers follows which file.

A file stays with the spool that holds its position. One that no spool knew when the workers were started falls to a
worker by its inode, which a rename does not change: `app.log` and the `app.log.1` that it becomes are one worker's.
All workers know the same positions, those from their common start, and so agree without talking to each other, also
when one of them is started again later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mcp_ingest.context import Share
from mcp_ingest.inputs.tail.files import read_positions


@dataclass(frozen=True, slots=True)
class Whose:
    """`held` has the spool that held a position of a file with this inode; alone, every file is mine.

    `changed` says when the newest file that any worker read at a path was changed last, nanoseconds since 1970.
    """

    share: Share = field(default_factory=Share)
    held: Mapping[int, int] = field(default_factory=dict)
    changed: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, share: Share, prefix: str) -> Whose:
        """What the positions whose keys begin so say; of two spools that know an inode the first has it."""
        held: dict[int, int] = {}
        changed: dict[str, int] = {}
        for spool, state in sorted(share.positions.items()):
            mine = {key: value for key, value in state.items() if key.startswith(prefix)}
            for position in read_positions(mine, prefix).values():
                held.setdefault(position.ino, spool)
                changed[position.path] = max(changed.get(position.path, 0), position.changed)
        return cls(share, held, changed)

    def mine(self, inode: int) -> bool:
        """Whether this worker follows the file."""
        spool = self.held.get(inode)
        return self.share.takes(b"%d" % inode) if spool is None else spool == self.share.index
