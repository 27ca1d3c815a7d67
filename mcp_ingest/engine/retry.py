"""When to try again: growing pauses with some chance in them, so that many senders do not come back at once."""

from __future__ import annotations

import random

#: The first pause and the longest, in seconds. Retries have no end while the spool has room.
FIRST, LONGEST = 0.5, 30.0
#: The pause of an output that takes nothing (credentials, certificate), and of a destination that does not.
PARKED = 5.0


def pause(attempt: int, asked: float | None = None) -> float:
    """Seconds to wait before attempt number `attempt` (from 1); never less than what the peer asked for."""
    grown = min(LONGEST, FIRST * 2.0 ** min(attempt - 1, 10))
    return max(grown * random.uniform(0.75, 1.25), asked or 0.0)  # noqa: S311  jitter, nothing secret
