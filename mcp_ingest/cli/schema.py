"""Print the JSON Schema of the configuration, for editors."""

from __future__ import annotations

import json

import click

from mcp_ingest.config.schema import schema


@click.command()
def command() -> None:
    """Print the JSON Schema of the configuration, for editors.

    An editor with the YAML language server takes it by a first line
    `# yaml-language-server: $schema=FILE`.
    """
    click.echo(json.dumps(schema(), indent=2))
