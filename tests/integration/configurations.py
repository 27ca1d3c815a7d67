"""Configurations that the end-to-end tests share: the platform's pipeline, whole, before one output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def with_pipeline(inputs: dict[str, Any], output: str, settings: dict[str, Any]) -> dict[str, Any]:
    """These inputs, `pipelines/mcp.yaml`, one output."""
    return {
        "include": [str(ROOT / "pipelines" / "mcp.yaml")],
        "inputs": inputs,
        "outputs": {output: settings},
    }


def to_elasticsearch(url: str, index: str, inputs: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Forward (or these inputs) to one index of a real Elasticsearch."""
    inputs = inputs if inputs is not None else {"forward": {}}
    return with_pipeline(inputs, "elasticsearch", {"hosts": [url], "index": index, **settings})


def to_store(directory: Path, inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Forward (or these inputs) to the embedded store."""
    inputs = inputs if inputs is not None else {"forward": {}}
    return with_pipeline(inputs, "store", {"directory": str(directory / "store")})
