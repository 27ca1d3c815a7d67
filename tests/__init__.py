"""The tests, mirroring mcp_ingest file by file."""
