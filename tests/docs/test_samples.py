"""Every sample in README.md and docs does what the page says: each page in a folder of its own, from top to bottom."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from mcp_ingest.cli import main
from mcp_ingest.config.load import load
from tests.docs.samples import PAGES, ROOT, Block, Command, agree, blocks, commands
from tests.integration.configurations import to_store
from tests.integration.daemon import Daemon, wait_until

#: Verbs that only look: what they show comes true a moment after an event was sent.
_LOOKS = re.compile(r"mcp-ingest (query|status|dead-letters (list|show)|why)|curl ")
_ENVIRONMENT = {"ELASTICSEARCH_URL": "http://localhost:9200"}


def _with(pages: list[Path], *todos: str) -> list[Path]:
    return [page for page in pages if any(block.todo in todos for block in blocks(page))]


def _named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_no_sample_stands_unchecked(page: Path) -> None:
    """Every sample of configuration, Python or a session says what is to be done with it, but for installing."""
    loose = [
        f"{page.name}:{block.line}"
        for block in blocks(page)
        if not block.todo
        and block.language not in ("text", "json", "toml", "ini")
        and not re.match(r"\$ (\w+=\S+ )?(make|pip|docker|git|sudo|cp|tar)\b", block.text)
    ]
    assert loose == []


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_links_lead_somewhere(page: Path) -> None:
    """Each link to a file of the repository finds it, and its heading."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in _anchors(file), f"{page.name}: {target}"


def _anchors(file: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_copies_are_equal(page: Path) -> None:
    """A copy of a file is that file."""
    for block in blocks(page):
        if block.todo.startswith("file="):
            assert block.text == (ROOT / block.todo[5:]).read_text(encoding="utf-8"), f"{page.name}:{block.line}"


@pytest.mark.parametrize("page", _with(PAGES, "check", "daemon"), ids=_named)
def test_configurations_load(page: Path, tmp_path: Path) -> None:
    """Each sample of a configuration is one, with the sections that it leaves out filled in."""
    (tmp_path / "secret").write_text("hunter2\n")
    for block in blocks(page):
        if block.todo in ("check", "daemon"):
            path = tmp_path / "sample.yaml"
            path.write_text(_whole(block, tmp_path))
            load(str(path), _ENVIRONMENT)


def _whole(block: Block, directory: Path) -> str:
    text = re.sub(r"\$\{file:[^}:]*", f"${{file:{directory / 'secret'}", block.text)
    found = yaml.safe_load(text)
    if isinstance(found, list):
        stages = "".join(f"      {line}\n" for line in text.splitlines())
        text, found = f"pipelines:\n  sample:\n    match: '**'\n    stages:\n{stages}", {"pipelines": {}}
    missing = {
        "inputs": "inputs: {forward: {}}\n",
        "pipelines": "pipelines: {sample: {match: '**'}}\n",
        "outputs": "outputs:\n" + "".join(f"  {name}: {{type: blackhole}}\n" for name in _outputs(found)),
    }
    return text + "".join(line for section, line in missing.items() if section not in found and "include" not in found)


def _outputs(found: dict[str, dict[str, dict[str, list[str]]]]) -> list[str]:
    named = [name for each in found.get("pipelines", {}).values() for name in each.get("outputs", [])]
    return named or ["blackhole"]


class Session:
    """A page's folder, as a reader has it who follows the page, with a daemon that stands in for `make run`."""

    def __init__(self, page: Path, daemon: Daemon, directory: Path) -> None:
        self.page, self.daemon, self.directory = page, daemon, directory
        binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": binaries, "COLUMNS": "1000"}

    def write(self, block: Block) -> None:
        path = self.directory / block.todo.removeprefix("write=")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._ports(block.text))

    def restart(self, block: Block) -> None:
        """The daemon with another configuration, in the page's folder."""
        self.daemon.stop()
        self.daemon.config.write_text(self._ports(block.text))
        self.daemon.start()

    def stopped(self, block: Block) -> None:
        """What is done while the daemon does not run."""
        self.daemon.stop()
        self.console(block)
        self.daemon.start()

    def python(self, block: Block) -> None:
        done = self._run([sys.executable, "-c", self._ports(block.text)])
        assert done.returncode == 0, f"{self.page.name}:{block.line}: {done.stderr}"

    def console(self, block: Block) -> None:
        for command in commands(block.text):
            self._console(block, command)

    def _console(self, block: Block, command: Command) -> None:
        printed = ""

        def seen() -> bool:
            nonlocal printed
            printed = self._printed(command.line)
            return not command.output or agree(command.output, printed)

        looks = _LOOKS.match(command.line)
        if looks:
            wait_until(self._settled)  # cheaper than to ask by a process again and again
        try:
            wait_until(seen, 10 if looks else 0.01)
        except AssertionError:
            where = f"{self.page.name}:{block.line}: {command.line}"
            pytest.fail(f"{where}\nshown:\n{command.output}\nprinted:\n{printed}", pytrace=False)

    def _settled(self) -> bool:
        """Whether all is delivered that can be."""
        outputs = self.daemon.status()["outputs"].values()
        return not any(output["held"] and output["state"] == "up" for output in outputs)

    def _printed(self, line: str) -> str:
        if line.startswith("curl "):  # not every machine has it
            with urllib.request.urlopen(self._ports(line).split()[-1], timeout=5) as answer:
                return str(answer.read().decode())
        text = self._printed_by(self._ports(line))
        text = text.replace(str(self.daemon.config), "built-in (store)")
        return text.replace(str(self.daemon.forward_port), "24224").replace(str(self.daemon.http_port), "24231")

    def _printed_by(self, line: str) -> str:
        """A plain `mcp-ingest …` runs in this process, which saves half a second each; all else in a shell."""
        if line.startswith("mcp-ingest ") and not re.search(r"[|;&$]", line):
            with contextlib.chdir(self.directory):
                return CliRunner().invoke(main, shlex.split(line)[1:]).output
        return self._run(["bash", "-c", line]).stdout

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.directory, env=self.environment, timeout=60,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip

    def _ports(self, text: str) -> str:
        text = text.replace("24224", str(self.daemon.forward_port)).replace("24231", str(self.daemon.http_port))
        return text.replace("localhost", "127.0.0.1")


@pytest.mark.parametrize("page", _with(PAGES, "run"), ids=_named)
def test_sessions_print_what_is_shown(page: Path, tmp_path: Path) -> None:
    """Who types what a page shows, from top to bottom, sees what it shows."""
    for name in ("pipelines", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    with contextlib.ExitStack() as stack:
        daemon = Daemon(tmp_path, to_store(tmp_path))  # the built-in configuration, on free ports
        if any(_LOOKS.search(block.text) for block in blocks(page) if block.todo == "run"):
            stack.enter_context(daemon)
        _follow(page, Session(page, daemon, tmp_path))


def _follow(page: Path, session: Session) -> None:
    for block in blocks(page):
        if block.todo.startswith("write="):
            session.write(block)
        elif block.todo == "daemon":
            session.restart(block)
        elif block.todo == "stopped":
            session.stopped(block)
        elif block.todo == "run":
            session.console(block) if block.language == "console" else session.python(block)


def test_a_stage_of_your_own_is_found_and_keeps_its_examples(tmp_path: Path) -> None:
    """The stage in docs/design.md, as an installed package has it: `check` takes it, its examples hold."""
    page = ROOT / "docs" / "design.md"
    (tmp_path / "acme_logs.py").write_text(_only(page, "stage"))
    package = tmp_path / "acme_logs-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-logs\nVersion: 1.0\n")
    points = tomllib.loads(next(block.text for block in blocks(page) if block.language == "toml"))["project"]
    for group, entries in points["entry-points"].items():
        lines = [f"[{group}]", *(f"{name} = {target}" for name, target in entries.items())]
        (package / "entry_points.txt").write_text("\n".join(lines))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", _TRY_EXAMPLES]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


_TRY_EXAMPLES = """
from mcp_ingest.component import find, names
from tests import test_contract as contract

assert "assign_team" in names("stage")
examples = find("stage", "assign_team").EXAMPLES
assert len(examples) == 2
for example in examples:
    contract.test_a_stage_does_what_its_examples_say("assign_team", example)
contract.test_a_component_reads_from_top_to_bottom("stage", "assign_team")
contract.test_a_stage_loses_no_event_whatever_it_brings("assign_team")
contract.test_a_stage_treats_a_batch_as_it_treats_each_event("assign_team")
"""


def _only(page: Path, todo: str) -> str:
    return next(block.text for block in blocks(page) if block.todo == todo)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_the_examples_are_configurations_without_a_warning(path: Path, tmp_path: Path) -> None:
    """Each file in `examples` loads, once its secrets are there; each test beside it passes."""
    if path.name.endswith(".test.yaml"):
        command = [sys.executable, "-m", "mcp_ingest", "test", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return
    (tmp_path / "secret").write_text("hunter2\n")
    text = re.sub(r"\$\{file:[^}:]*", f"${{file:{tmp_path / 'secret'}", path.read_text(encoding="utf-8"))
    copy = tmp_path / "examples" / path.name
    copy.parent.mkdir()
    copy.write_text(text)
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    assert load(str(copy), {}).warnings == ()
