"""What a delivery can get over by beginning anew at once: damage on the spool's disk."""

from __future__ import annotations

from mcp_ingest.errors import DamagedChunkError, SpoolError, SpoolRenewedError
from mcp_ingest.spool import Spool


def innermost(error: BaseException) -> BaseException:
    """What a task group wraps up: the first of its errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def recovered(error: BaseException, spool: Spool) -> bool:
    """Whether it makes sense to begin anew now, with what is committed.

    A chunk that cannot be used goes into quarantine. A spool that was salvaged has said so itself.
    """
    if isinstance(error, SpoolRenewedError):
        return True
    if not isinstance(error, DamagedChunkError):
        return False
    try:
        await spool.quarantine(error.number, str(error))
    except SpoolRenewedError:
        return True
    except SpoolError:  # the disk refuses: it is found again later
        return False
    return True
