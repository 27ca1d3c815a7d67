"""Writes the pages that are made from the code: components, commands, metrics; and the tables in README.md.

`python docs/generate.py` writes them, `--check` names those that are stale and ends with 1; `make test` checks.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml

from mcp_ingest.cli import main as command_line
from mcp_ingest.component import ByteSize, Component, Duration, Example, Kind, find, names
from mcp_ingest.metrics import catalogue

DOCS = Path(__file__).parent
README = DOCS.parent / "README.md"
FOLDERS: dict[Kind, str] = {"input": "inputs", "stage": "stages", "output": "outputs"}
_NOTE = "<!-- Made by docs/generate.py from the code: do not edit. -->\n"


@functools.cache
def pages() -> dict[Path, str]:
    """Every generated page by its path below `docs`."""
    made = {Path("cli.md"): cli_page(), Path("metrics.md"): metrics_page(), Path("components/README.md"): index_page()}
    for kind, folder in FOLDERS.items():
        for name in names(kind):
            made[Path("components") / folder / f"{name}.md"] = component_page(kind, name)
    return made


# --- components ----------------------------------------------------------------------------------------------


def component_page(kind: Kind, name: str) -> str:
    """What a component promises, its settings, and its examples, which are also its tests."""
    component = find(kind, name)
    parts = [_NOTE, f"# `{name}`: {_article(kind)}", promise(component), "## Settings", settings_table(component)]
    if component.EXAMPLES:
        parts.append("## Examples")
        parts += [_example(kind, name, example) for example in component.EXAMPLES]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def promise(component: type[Component]) -> str:
    """The docstring of the component's file."""
    return inspect.cleandoc(sys.modules[component.__module__].__doc__ or component.__doc__ or "")


def _first_sentence(component: type[Component]) -> str:
    return re.split(r"\.\s|\n\n|\.$", promise(component), maxsplit=1)[0]


def settings_table(component: type[Component]) -> str:
    """All settings with type, default and meaning; those inside of others by their whole path."""
    rows = list(_rows(component.Config, ""))
    if not rows:
        return "It has none."
    head = ["| setting | type | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join(head + [f"| `{name}` | {kind} | {default} | {text} |" for name, kind, default, text in rows])


def _rows(settings: type[msgspec.Struct], path: str) -> typing.Iterator[tuple[str, str, str, str]]:
    for field in msgspec.structs.fields(settings):
        name = path + field.encode_name
        kind, text = _described(field.type)
        if field.encode_name == "on_error" and not text:
            text = "What becomes of an event on which the stage fails."
        yield name, _cell(type_text(kind)), _cell(_default(field)), _cell(text)
        inner, suffix = _struct_inside(kind)
        if inner is not None:
            yield from _rows(inner, f"{name}{suffix}.")


def _described(kind: Any) -> tuple[Any, str]:
    if typing.get_origin(kind) is not typing.Annotated:
        return kind, ""
    inner, *metas = typing.get_args(kind)
    described = [meta.description for meta in metas if isinstance(meta, msgspec.Meta) and meta.description]
    return inner, " ".join(described)


_NAMES: dict[Any, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", ByteSize: "size", Duration: "duration",
    Any: "anything", type(None): "nothing", bytes: "bytes",
}  # fmt: skip


def type_text(kind: Any) -> str:
    """A type in the words of somebody who writes YAML."""
    kind = _described(kind)[0]
    arguments = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return "one of " + ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(each) for each in arguments if each is not type(None))
    if origin is dict:
        return f"mapping of {type_text(arguments[0])} to {type_text(arguments[1])}"
    if origin in (list, tuple, set, frozenset):
        return f"list of {type_text(arguments[0])}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "mapping"
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _struct_inside(kind: Any) -> tuple[type[msgspec.Struct] | None, str]:
    """The settings inside of a type, and how a path goes on into them."""
    kind = _described(kind)[0]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind, ""
    signs = {list: "[]", tuple: "[]", dict: ".NAME"}
    for argument in typing.get_args(kind):
        inner, suffix = _struct_inside(argument)
        if inner is not None:
            return inner, signs.get(typing.get_origin(kind), "") + suffix
    return None, ""


def _default(field: Any) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    elif field.default is not msgspec.NODEFAULT:
        value = field.default
    else:
        return "**required**"
    if isinstance(value, msgspec.Struct):
        return ""
    return "" if value is None or value in ((), [], {}) else f"`{_value(value)}`"


def _value(value: Any) -> str:
    match value:
        case ByteSize():
            return next(
                (f"{value >> shift}{unit}" for shift, unit in _SIZES if value and not value % (1 << shift)), "0"
            )
        case Duration():
            return next(
                (f"{value / span:g}{unit}" for span, unit in _SPANS if value and not value % span), f"{value:g}s"
            )
        case set() | frozenset():
            return _value(sorted(value))
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)


_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB"), (1, "B"))
_SPANS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _example(kind: Kind, name: str, example: Example) -> str:
    settings: Any = example.config or None
    whole: Any = {name: settings} if settings else name
    shown = yaml.safe_dump([whole] if kind == "stage" else {name: settings}, sort_keys=False, allow_unicode=True)
    parts = [f"### {example.title}", f"```yaml\n{shown.replace(': null', ':')}```"]
    if kind == "stage":
        parts.append(f"given\n\n{_events(example.given)}")
        if example.expected is not None:
            parts.append(f"becomes\n\n{_events(example.expected)}")
        if example.failed:
            parts.append("and fails with " + ", ".join(f"“{reason}”" for reason in example.failed))
    return "\n\n".join(parts)


def _events(events: Any) -> str:
    found = events if isinstance(events, list) else [events]
    if not found:
        return "nothing"
    lines = "\n".join(json.dumps(event, ensure_ascii=False, default=repr) for event in found)
    return f"```json\n{lines}\n```"


def _article(kind: Kind) -> str:
    return {"input": "an input", "stage": "a stage", "output": "an output"}[kind]


def index_page() -> str:
    """All components, a line each."""
    parts = [_NOTE, "# Components"]
    for kind, folder in FOLDERS.items():
        rows = [f"| [`{n}`]({folder}/{n}.md) | {_cell(_about(kind, n))} |" for n in names(kind)]
        parts += [f"## {folder.capitalize()}", "\n".join(["| name | what it does |", "| --- | --- |", *rows])]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def with_tables(text: str) -> str:
    """README.md with what stands between its markers `<!-- made: NAME -->` and `<!-- end -->` made anew."""
    tables = {"components": _component_table, "commands": _command_table}
    return re.sub(
        r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{tables[found[2]]()}\n{found[3]}",
        text,
        flags=re.DOTALL,
    )


def _component_table() -> str:
    rows = [
        f"| {kind} | [`{n}`](docs/components/{folder}/{n}.md) | {_cell(_about(kind, n))} |"
        for kind, folder in FOLDERS.items()
        for n in names(kind)
    ]
    return "\n".join(["| | name | what it does |", "| --- | --- | --- |", *rows])


def _about(kind: Kind, name: str) -> str:
    """The first sentence of the promise, without the name where it begins with it."""
    sentence = _first_sentence(find(kind, name)).removeprefix(f"`{name}`: ")
    return sentence[:1].upper() + sentence[1:]


def _command_table() -> str:
    context = click.Context(command_line, info_name="mcp-ingest")
    assert isinstance(command_line, click.Group)
    rows = []
    for verb in command_line.list_commands(context):
        command = command_line.get_command(context, verb)
        assert command is not None
        first = re.split(r"\.\s|\n\n|\.$", inspect.cleandoc(command.help or ""), maxsplit=1)[0]
        rows.append(f"| [`{verb}`](docs/cli.md#mcp-ingest-{verb}) | {_cell(first)} |")
    return "\n".join(["| `mcp-ingest …` | what it does |", "| --- | --- |", *rows])


# --- commands and metrics ------------------------------------------------------------------------------------


def cli_page() -> str:
    """The help of each verb."""
    context = click.Context(command_line, info_name="mcp-ingest")
    parts = [_NOTE, "# The command `mcp-ingest`", inspect.cleandoc(command_line.help or "")]
    assert isinstance(command_line, click.Group)
    for verb in command_line.list_commands(context):
        command = command_line.get_command(context, verb)
        assert command is not None
        parts += _command(command, context, f"mcp-ingest {verb}")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _command(command: click.Command, parent: click.Context, path: str) -> list[str]:
    context = click.Context(command, parent=parent, info_name=path.rpartition(" ")[2])
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"## `{path}`", f"    {usage}", _help(command)]
    rows = [_option(each) for each in command.params if isinstance(each, click.Option) and not each.hidden]
    if rows:
        parts.append("\n".join(["| option | meaning |", "| --- | --- |", *rows]))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            parts += _command(inner, context, f"{path} {name}")
    return parts


def _help(command: click.Command) -> str:
    """The help text; what click is told not to wrap (a paragraph behind a backspace) is code."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(
        textwrap.indent(text.removeprefix("\b\n"), "    ") if text.startswith("\b") else text for text in paragraphs
    )


def _option(option: click.Option) -> str:
    default = option.default
    shown = f" Default: `{default}`." if option.show_default and isinstance(default, str | int | float) else ""
    choices = "|".join(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else ""
    value = "" if option.is_flag else f" {choices or option.metavar or str(option.name).upper()}"
    return f"| `{_cell(', '.join(option.opts) + value)}` | {_cell(option.help or '')}{shown} |"


def metrics_page() -> str:
    """Every metric that is declared."""
    rows = [
        f"| `{metric.name}{'_total' if metric.kind == 'counter' else ''}` | {metric.kind} "
        f"| {', '.join(f'`{label}`' for label in metric.labels)} | {_cell(metric.help)} |"
        for metric in sorted(catalogue(), key=lambda metric: metric.name)
    ]
    head = ["| name | kind | labels | what it says |", "| --- | --- | --- | --- |"]
    text = "On `/metrics`, besides what the stage `extract_metrics` makes. Labels are names from the configuration."
    return "\n\n".join([_NOTE.strip(), "# Metrics", text, "\n".join(head + rows)]) + "\n"


# --- writing and checking ------------------------------------------------------------------------------------


def stale(folder: Path = DOCS) -> list[str]:
    """The pages that are not what the code says, and those of components that are gone."""
    made = pages()
    wrong = [path for path, text in made.items() if not _same(folder / path, text)]
    gone = [p.relative_to(folder) for p in (folder / "components").rglob("*.md") if p.relative_to(folder) not in made]
    return sorted(map(str, [*wrong, *gone]))


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def write(folder: Path = DOCS) -> list[str]:
    """Bring every page up to date; returns those that changed."""
    changed, made = stale(folder), pages()
    for name in changed:
        path = folder / name
        if Path(name) in made:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[Path(name)], encoding="utf-8")
        else:
            path.unlink()
    return changed


def main() -> None:
    """`python docs/generate.py [--check]`."""
    check = "--check" in sys.argv[1:]
    changed = [f"docs/{name}" for name in (stale() if check else write())]
    written = README.read_text(encoding="utf-8")
    if (made := with_tables(written)) != written:
        changed.append(README.name)
        if not check:
            README.write_text(made, encoding="utf-8")
    for name in changed:
        click.echo(f"{'stale' if check else 'written'}: {name}")
    if check and changed:
        click.echo("run: python docs/generate.py", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
