"""What applications use: the forward sender."""

from __future__ import annotations

from mcp_ingest.client.forward import ForwardSender, SendError

__all__ = ["ForwardSender", "SendError"]
