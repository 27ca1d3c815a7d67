"""The command `mcp-ingest VERB`: a file of this folder is a verb (`dead_letters.py` is `dead-letters`).

Each has a `command`, is imported only when it is called, and says in its docstring's first line what it does.
A configuration with mistakes ends every verb with exit code 2 and a line for each mistake.
"""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path
from typing import cast

import click

from mcp_ingest import __version__
from mcp_ingest.errors import ConfigError, IngestError


class Verbs(click.Group):
    """A group whose commands are the modules beside this one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in alphabetical order."""
        found = (module.name for module in pkgutil.iter_modules(__path__))
        return sorted(name.replace("_", "-") for name in found if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command; None where there is no such verb."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = __import__(f"{__name__}.{cmd_name.replace('-', '_')}", fromlist=["command"])
        command = cast(click.Command, module.command)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One line for each verb, out of its file's docstring, so that none is imported."""
        with formatter.section("Verbs"):
            formatter.write_dl([(verb, summary(verb)) for verb in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> object:
        """Call the verb; our own errors are lines on standard error, never a traceback."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(problem, err=True)
            ctx.exit(2)
        except IngestError as error:
            click.echo(f"mcp-ingest: {error}", err=True)
            ctx.exit(1)


def summary(verb: str) -> str:
    """The first line of the docstring of the verb's file."""
    source = (Path(__file__).parent / f"{verb.replace('-', '_')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mcp-ingest", message="%(prog)s %(version)s")
def main() -> None:
    """Take logs, make them clean and safe, hold them on disk until they are delivered, and account for each.

    Without -c a verb reads ./mcp-ingest.yaml, then /etc/mcp-ingest/mcp-ingest.yaml, then the built-in configuration.
    """
