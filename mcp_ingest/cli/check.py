"""Check the configuration and show every mistake in it at once, with file, line and column.

Exit code 0: `run` can start with it; 2: it cannot.
"""

from __future__ import annotations

import os

import click

from mcp_ingest.cli._shared import config_option
from mcp_ingest.component import find
from mcp_ingest.config.load import load
from mcp_ingest.config.model import ComponentConfig, Configuration


@click.command()
@config_option
def command(config: str | None) -> None:
    """Check the configuration and show every mistake in it at once, with file, line and column.

    Prints warnings, and how events flow. Exit code 0: `run` can start with it; 2: it cannot.
    """
    configuration = load(config)
    for warning in configuration.warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)
    click.echo(f"{click.style('OK', fg='green')}: {configuration.path}")
    for line in flow(configuration):
        click.echo(line)


def flow(configuration: Configuration) -> list[str]:
    """The graph in lines: inputs, then each pipeline with what it takes and where that goes."""
    lines = [f"inputs: {', '.join(map(_named, configuration.inputs.values()))}"]
    for pipeline in configuration.pipelines.values():
        stages = " → ".join(stage.name for stage in pipeline.stages) or "no stages"
        outputs = ", ".join(_named(configuration.outputs[name]) for name in pipeline.outputs)
        lines.append(f"  {' '.join(pipeline.match)} → {pipeline.name}: {stages} → {outputs}")
    return lines + workers(configuration)


_SHARING = {
    "ports": "every worker listens on its port",
    "items": "what it reads is shared out",
    "one": "only worker 0 runs it",
}
_OWN = {
    "file": "each worker but the first writes into `worker-K` folders",
    "store": "each worker has a folder of its own",
}


def workers(configuration: Configuration) -> list[str]:
    """What several workers make of the inputs, and of outputs that write to disk; nothing for a single one."""
    if configuration.workers == 1:
        return []
    lines = [f"workers: {configuration.workers}, each with a spool of its own"]
    lines += [
        f"  {_named(each)}: {_SHARING[find('input', each.type).sharing]}" for each in configuration.inputs.values()
    ]
    lines += [f"  {_named(each)}: {_OWN[each.type]}" for each in configuration.outputs.values() if each.type in _OWN]
    cores = os.cpu_count() or 1
    if configuration.workers > cores:
        lines.append(f"  more workers than cores ({cores}) make nothing faster")
    return lines


def _named(component: ComponentConfig) -> str:
    return component.name if component.name == component.type else f"{component.name} ({component.type})"
