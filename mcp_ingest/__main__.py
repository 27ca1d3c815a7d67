"""`python -m mcp_ingest` is `mcp-ingest`."""

from mcp_ingest.cli import main

if __name__ == "__main__":
    main(prog_name="mcp-ingest")
