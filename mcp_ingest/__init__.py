"""mcp-ingest: a log processor that loses nothing, doubles nothing and tells the truth about every event."""

__version__ = "0.1.0"
