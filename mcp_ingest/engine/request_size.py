"""How many bytes a request of an output may have: fewer where its peer takes no more. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Bytes below which nothing is made smaller any more, unless the peer refuses even that.
LEAST = 64 * 1024
#: Answers after which a size that the peer once refused is tried again, a quarter at a time.
PATIENCE = 1000


@dataclass(slots=True)
class RequestSize:
    """The present bound in `bytes`, at the most `most`; a single event is sent whatever it is."""

    most: int
    bytes: int = field(init=False)
    _taken: int = field(init=False)  # what the peer is known to take
    _answers: int = 0

    def __post_init__(self) -> None:
        self.bytes = self._taken = self.most

    def refused(self, size: int) -> None:
        """The peer refused a request of so many bytes for its size, or for want of memory."""
        self._taken = self.bytes = max(1, min(self._taken, size // 2))
        self._answers = 0

    def failed(self) -> None:
        """Again and again nothing came of a request: less may come through, or in time."""
        self.bytes = min(self.bytes, max(LEAST, self.bytes // 2))

    def answered(self) -> None:
        """A request was taken."""
        if self.bytes < self._taken:
            self.bytes = min(self._taken, self.bytes * 2)
        elif self._taken < self.most:
            self._answers += 1
            if self._answers >= PATIENCE:
                self._answers = 0
                self._taken = self.bytes = min(self.most, self._taken + max(1, self._taken // 4))
