"""Run the tests of pipelines: each `NAME.test.yaml` beside its `NAME.yaml`.

Without FILES: those beside the configuration's pipelines, else those in `pipelines/`. Exit code 0: all pass;
1: one fails, or there is none; 2: a file is wrong.
"""

from __future__ import annotations

from pathlib import Path

import click

from mcp_ingest.cli._cases import failures, read_cases
from mcp_ingest.cli._shared import config_option
from mcp_ingest.config.load import load, load_pipelines
from mcp_ingest.config.model import PipelineConfig


@click.command()
@config_option
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.pass_context
def command(ctx: click.Context, config: str | None, files: tuple[Path, ...]) -> None:
    """Run the tests of pipelines: each NAME.test.yaml beside its NAME.yaml.

    Without FILES: those beside the configuration's pipelines, else those in pipelines/. Exit code 0: all pass;
    1: one fails, or there is none; 2: a file is wrong.
    """
    found = [each for file in files for each in _tests_in(file)] if files else _beside(config)
    passed = failed = 0
    for path in found:
        pipelines = _pipelines(path, config)
        for case in read_cases(path):
            differences = failures(case, pipelines)
            failed, passed = failed + bool(differences), passed + (not differences)
            verdict = click.style("FAIL", fg="red") if differences else click.style("ok  ", fg="green")
            click.echo(f"{verdict} {path}: {case.name}")
            for line in differences:
                click.echo(f"       {line}")
    click.echo(f"{passed} passed, {failed} failed" if passed or failed else "there are no tests")
    ctx.exit(0 if passed and not failed else 1)


def _tests_in(path: Path) -> list[Path]:
    return sorted(path.glob("*.test.yaml")) if path.is_dir() else [path]


def _beside(config: str | None) -> list[Path]:
    """The test files beside the files that the configuration's pipelines stand in, else those in `pipelines/`."""
    files = {Path(pipeline.place.file) for pipeline in load(config).pipelines.values()}
    found = sorted(test for file in files if (test := file.with_suffix(".test.yaml")).exists())
    return found or _tests_in(Path("pipelines"))


def _pipelines(path: Path, config: str | None) -> dict[str, PipelineConfig]:
    """The pipelines that a test file is about: of the file beside it, else of the whole configuration."""
    beside = path.with_name(path.name.replace(".test.", "."))
    if beside != path and beside.exists():
        return load_pipelines(str(beside))
    return load(config).pipelines
