"""The durable middle: what pipelines finish is committed here once, and serves every output until all have it."""

from mcp_ingest.spool.reader import SpoolReader
from mcp_ingest.spool.spool import Spool

__all__ = ["Spool", "SpoolReader"]
