"""`mcp-ingest dead-letters`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mcp_ingest.cli import dead_letters, main
from mcp_ingest.event import Term
from mcp_ingest.spool import SpoolReader
from mcp_ingest.spool.model import LetterKey
from tests.cli.daemons import answering, configuration, leave_a_spool

LETTER: dict[str, Any] = {
    "time": 1_700_000_000_000_000_000, "reason": "mapper_parsing_exception", "kind": "refused", "tag": "mcp",
    "record": {"message": "é"}, "event_id": "abc", "event_time": 5_000_000_000, "input": "", "pipeline": "mcp",
    "stage": "", "output": "elasticsearch", "destination": "mcp-logs", "form": "record", "received": 5_000_000_000,
    "output_type": "elasticsearch", "signature": "0123456789ab", "number": 7,
}  # fmt: skip
GROUP: dict[str, Any] = {
    "signature": "0123456789ab", "kind": "refused", "output": "elasticsearch", "input": "", "pipeline": "mcp",
    "stage": "", "letters": 12345, "bytes": 99, "oldest": 1_700_000_000_000_000_000,
    "newest": 1_700_000_060_000_000_000, "reason": "failed to parse\nfield [n]",
}  # fmt: skip
PAGES = "/api/dead-letters"


def _run(folder: Path, port: int, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["dead-letters", "-c", configuration(folder, port), *arguments], input=stdin)


# --- list and show -----------------------------------------------------------------------------------------


def test_groups_are_listed(tmp_path: Path) -> None:
    """A line for each group, with signature, count, first, last, place and reason; more groups are said."""
    with answering({f"{PAGES}/groups?limit=1": {"groups": [GROUP], "count": 3}}) as port:
        result = _run(tmp_path, port, "list", "--limit", "1")
    assert result.exit_code == 0, result.output
    head, line = result.stdout.splitlines()
    assert head.split() == ["group", "letters", "first", "last", "where", "reason", "of", "the", "last"]
    assert line.split()[:5] == [
        "0123456789ab",
        "12,345",
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:14:20Z",
        "elasticsearch",
    ]
    assert line.endswith("failed to parse field [n]")
    assert "and 2 more groups" in result.stderr


def test_groups_as_json(tmp_path: Path) -> None:
    """`--json` gives scripts the whole group, a line for each."""
    with answering({f"{PAGES}/groups?output=es&limit=20": {"groups": [GROUP], "count": 1}}) as port:
        result = _run(tmp_path, port, "list", "--json", "--output", "es")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [GROUP]


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        (["--all"], "limit=1"),
        (["--group", "0123456789ab"], "group=0123456789ab&limit=1"),
        (["--before", "9"], "limit=1&before=9"),
        (["--all", "--reason", "a b", "--pipeline", "mcp", "--stage", "x"], "pipeline=mcp&stage=x&reason=a+b&limit=1"),
        (["--all", "--since", "2026-11-22"], "since=1795305600000000000&limit=1"),
    ],
)
def test_single_letters_are_listed(tmp_path: Path, arguments: list[str], query: str) -> None:
    """With `--all`, of a group or below a number: a line for each letter; a full page says how to go on."""
    with answering({f"{PAGES}?{query}": {"letters": [LETTER]}}) as port:
        result = _run(tmp_path, port, "list", "--limit", "1", *arguments)
        as_json = _run(tmp_path, port, "list", "--limit", "1", "--json", *arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["7", "2023-11-14T22:13:20Z", "elasticsearch", "mcp", "mapper_parsing_exception"]
    assert "--before 7" in result.stderr
    assert [json.loads(line) for line in as_json.stdout.splitlines()] == [LETTER]


def test_a_time_that_is_none(tmp_path: Path) -> None:
    """`--since` with something else is one line."""
    result = _run(tmp_path, 0, "list", "--since", "yesterday")
    assert result.exit_code == 1
    assert "`yesterday` is not a time" in result.stderr


def test_one_letter_is_shown_with_its_record(tmp_path: Path) -> None:
    """All that is known of it, and the record as JSON."""
    with answering({f"{PAGES}/7": LETTER}) as port:
        result = _run(tmp_path, port, "show", "7")
        assert json.loads(_run(tmp_path, port, "show", "7", "--json").stdout) == LETTER
        missing = _run(tmp_path, port, "show", "8")
    assert "destination: mcp-logs" in result.stdout
    assert "received:    1970-01-01T00:00:05Z" in result.stdout
    assert '"message": "é"' in result.stdout
    assert missing.exit_code == 1


# --- replay ------------------------------------------------------------------------------------------------

PREVIEW: dict[str, Any] = {
    "number": 7, "outcome": "accepted", "why": "through the pipeline `mcp`", "before": {"n": "1", "m": 2},
    "after": [{"n": 1, "m": 2}], "destinations": {"es": ["logs"]},
}  # fmt: skip


class Replays:
    """Answers a preview of `count` letters and then one batch after the other."""

    def __init__(self, count: int, *batches: dict[str, Any], preview: dict[str, Any] = PREVIEW) -> None:
        self.count = count
        self.batches = list(batches)
        self.asked: list[dict[str, Any]] = []
        self.shown = preview

    def pages(self) -> dict[str, Callable[[Any], Any]]:
        return {f"POST {PAGES}/{verb}": getattr(self, verb) for verb in ("preview", "replay", "drop")}

    def preview(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        return {"count": self.count, "previews": [self.shown][: min(self.count, body["limit"])]}

    def replay(self, body: dict[str, Any]) -> Any:
        self.asked.append(body)
        return self.batches.pop(0) if self.batches else None

    drop = replay


def _batch(count: int, after: int, until: int, *kept: int, died: int = 0) -> dict[str, Any]:
    stay = [{"number": number, "why": "no record"} for number in kept]
    return {"count": count, "died": died, "kept": stay, "after": after, "until": until}


def test_a_replay_goes_batch_by_batch_to_its_end(tmp_path: Path) -> None:
    """It shows what changes, then goes on where the last batch ended, up to where the first one saw the end."""
    replays = Replays(1500, _batch(1000, 1000, 1500), _batch(500, 1500, 1500, died=3))
    with answering(replays.pages()) as port:
        result = _run(tmp_path, port, "replay", "--output", "es")
    assert result.exit_code == 0, result.output
    assert "7: accepted: through the pipeline `mcp`" in result.stdout
    assert "to es: logs" in result.stdout
    lines = result.stdout.splitlines()
    assert '  -   "n": "1"' in lines
    assert '  +   "n": 1' in lines
    assert '      "m": 2' in lines
    assert "… and 1,499 more" in lines
    assert lines[-1] == "replayed 1,500 dead letters; dead letters again: 3"
    assert replays.asked == [
        {"output": "es", "limit": 3, "through_pipeline": False},
        {"output": "es", "through_pipeline": False, "after": 0, "until": None},
        {"output": "es", "through_pipeline": False, "after": 1000, "until": 1500},
    ]


def test_what_stays_is_said(tmp_path: Path) -> None:
    """Letters that cannot be replayed: why, how many, one of them; exit code 1."""
    replays = Replays(3, _batch(1, 9, 9, 4, 5))
    with answering(replays.pages()) as port:
        result = _run(tmp_path, port, "replay", "4", "5", "9", "--through-pipeline")
    assert result.exit_code == 1
    assert "replayed 1 dead letter\n" in result.stdout
    assert "2 dead letters not replayed, such as 4: no record" in result.stderr
    assert replays.asked[0] == {"numbers": [4, 5, 9], "limit": 3, "through_pipeline": True}


def test_a_dry_run_only_shows(tmp_path: Path) -> None:
    """Nothing but the preview is asked for; a record that nothing changes, or that stays, is shown as it is."""
    kept = {**PREVIEW, "outcome": "kept", "why": "no record", "after": [], "destinations": {}}
    replays = Replays(1, preview=kept)
    with answering(replays.pages()) as port:
        result = _run(tmp_path, port, "replay", "--all", "--dry-run", "--diffs", "1")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "7: kept: no record"
    assert '      "n": "1"' in result.stdout.splitlines()
    assert replays.asked == [{"all": True, "limit": 1, "through_pipeline": False}]


def test_on_a_terminal_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a replay, and before more than one is deleted; `--yes` answers."""

    class Terminal:
        def __getattr__(self, name: str) -> Any:
            return getattr(sys.stdin, name)

        def isatty(self) -> bool:
            return True

    import sys

    class System:
        stdin = Terminal()
        stderr = sys.stderr

    monkeypatch.setattr(dead_letters, "sys", System)
    for verb, question in (("replay", "Replay 2 dead letters?"), ("drop", "Delete 2 dead letters for good?")):
        replays = Replays(2, _batch(2, 9, 9), _batch(2, 9, 9))
        with answering(replays.pages()) as port:
            refused = _run(tmp_path, port, verb, "--all", stdin="n\n")
            assert (refused.exit_code, len(replays.batches)) == (1, 2)
            assert question in refused.stdout
            assert _run(tmp_path, port, verb, "--all", stdin="y\n").exit_code == 0
            assert len(replays.batches) == 1
            assert question not in _run(tmp_path, port, verb, "--all", "--yes").stdout
            assert not replays.batches


def test_a_daemon_that_goes_away_in_between(tmp_path: Path) -> None:
    """It says how far it got."""
    replays = Replays(1500, _batch(1000, 1000, 1500))
    with answering(replays.pages()) as port:
        result = _run(tmp_path, port, "replay", "--all")
    assert result.exit_code == 1
    assert "that was after 1,000 dead letters" in result.stderr


@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_which_letters_must_be_said(tmp_path: Path, verb: str) -> None:
    """Neither all by accident, nor all and some."""
    for arguments in ([], ["--all", "--output", "es"], ["7", "--all"], ["seven"], ["-1"]):
        result = _run(tmp_path, 0, verb, *arguments)
        assert result.exit_code == 2, arguments


@pytest.mark.parametrize("verb", ["replay", "drop"])
def test_when_there_are_none(tmp_path: Path, verb: str) -> None:
    """One line, exit code 1, and nothing is asked for."""
    replays = Replays(0)
    with answering(replays.pages()) as port:
        result = _run(tmp_path, port, verb, "7")
    assert result.exit_code == 1
    assert "there are no such dead letters" in result.stderr


# --- drop --------------------------------------------------------------------------------------------------


def test_more_than_one_is_not_deleted_by_accident(tmp_path: Path) -> None:
    """Without a terminal `--yes` has to be there; a single one needs none."""
    replays = Replays(2, _batch(2, 9, 9))
    with answering(replays.pages()) as port:
        result = _run(tmp_path, port, "drop", "--all")
        assert result.exit_code == 1
        assert "2 dead letters would be deleted: say --yes" in result.stderr
        result = _run(tmp_path, port, "drop", "--group", "x", "--yes")
        assert result.stdout == "deleted 2 dead letters\n"
    assert replays.asked[-1] == {"group": "x", "after": 0, "until": None}
    replays = Replays(1, _batch(1, 9, 9))
    with answering(replays.pages()) as port:
        assert _run(tmp_path, port, "drop", "7").stdout == "deleted 1 dead letter\n"


# --- without a daemon --------------------------------------------------------------------------------------


async def test_without_a_daemon_the_spool_is_read(tmp_path: Path) -> None:
    """The letters of a stopped daemon are listed, shown and deleted; a replay says that it needs the daemon."""
    await leave_a_spool(tmp_path)
    listed = _run(tmp_path, 0, "list")
    assert listed.exit_code == 0, listed.output
    assert "forward > mcp > parse_json" in listed.stdout
    assert "not JSON: line 1" in listed.stdout
    signature = listed.stdout.splitlines()[1].split()[0]
    single = _run(tmp_path, 0, "list", "--group", signature)
    number = single.stdout.split()[0]
    assert '"message": "oops"' in _run(tmp_path, 0, "show", number).stdout
    missing = _run(tmp_path, 0, "show", "999")
    assert missing.exit_code == 1
    assert "there is no dead letter 999" in missing.stderr
    replay = _run(tmp_path, 0, "replay", number)
    assert replay.exit_code == 1
    assert "no daemon runs, and it alone can replay" in replay.stderr
    assert "no such dead letters" in _run(tmp_path, 0, "drop", "999").stderr
    dropped = _run(tmp_path, 0, "drop", "--stage", "parse_json")
    assert (dropped.exit_code, dropped.stdout) == (0, "deleted 1 dead letter\n")
    assert "no dead letters" in _run(tmp_path, 0, "list").stderr
    assert "no dead letters" in _run(tmp_path, 0, "list", "--all").stderr
    with SpoolReader(tmp_path / "spool") as spool:
        assert spool.ledger()[LetterKey(Term.DELETED, "stage")] == 1


def test_without_anything_it_says_so(tmp_path: Path) -> None:
    """No daemon and no spool: one line, exit 1."""
    result = _run(tmp_path, 0, "list")
    assert result.exit_code == 1
    assert "there is no spool" in result.stderr
