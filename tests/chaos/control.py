"""What the driver tells the daemon while it runs: two numbers in a small file that both have in memory."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_NUMBERS = struct.Struct("<qq")
VARIABLE = "MCP_CHAOS_CONTROL"


class Control:
    """`clock_offset` are nanoseconds that the daemon's wall clock is off, `failing_commits` whether commits fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(_NUMBERS.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _NUMBERS.size)

    @property
    def clock_offset(self) -> int:
        """Nanoseconds."""
        return int(_NUMBERS.unpack_from(self._memory)[0])

    @clock_offset.setter
    def clock_offset(self, nanoseconds: int) -> None:
        _NUMBERS.pack_into(self._memory, 0, nanoseconds, self.failing_commits)

    @property
    def failing_commits(self) -> bool:
        """Whether commits fail now."""
        return bool(_NUMBERS.unpack_from(self._memory)[1])

    @failing_commits.setter
    def failing_commits(self, failing: bool) -> None:
        _NUMBERS.pack_into(self._memory, 0, self.clock_offset, failing)
