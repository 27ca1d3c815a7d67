"""Globs of `tail` over the files of an output `file`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.config.load import load

_CONFIG = """
inputs:
  files: {type: tail, paths: [%s], exclude: [%s]}
pipelines: {all: {match: "**", stages: [redact]}}
outputs: {archive: {type: file, path: "%s"}}
"""


def _warnings(tmp_path: Path, glob: str, exclude: str, path: str) -> tuple[str, ...]:
    file = tmp_path / "c.yaml"
    file.write_text(_CONFIG % (glob, exclude, path))
    return load(str(file), {}).warnings


@pytest.mark.parametrize(
    ("glob", "exclude", "path"),
    [
        ("/var/log/*.log", "", "/var/log/archive.log"),
        ("/var/log/**/*", "", "/var/log/archive/{tag}/{@timestamp:%Y-%m-%d}.ndjson"),
        ("/var/log/**", "", "/var/log/{tag}.ndjson"),
        ("/var/log/app.log", "", "/var/log/{tag}.log"),
        ("/var/log/app-*.log", "", "/var/log/app-{tag}.log"),
        ("'/var/log/app-[ab].log'", "", "/var/log/app-{tag}.log"),
        ("/var/log/*/x", "", "/var/log/{tag}/x"),
        ("/var/log/*", "'*.gz'", "/var/log/{tag}.ndjson"),
        ("'*.log'", "", "{tag}.log"),
    ],
)
def test_what_would_be_read_again(tmp_path: Path, glob: str, exclude: str, path: str) -> None:
    """Whatever stands in braces may be anything: one warning at the input, with the way out."""
    (warning,) = _warnings(tmp_path, glob, exclude, path)
    assert warning == (
        f"{tmp_path}/c.yaml:3:17: `files` may read what the output `archive` writes, and feed it to itself without "
        f"end: keep {path} out of `paths`, or name it in `exclude`"
    )


@pytest.mark.parametrize(
    ("glob", "exclude", "path"),
    [
        ("/var/log/*.log", "", "/var/log/archive.ndjson"),
        ("/var/log/*.log", "", "/var/log/archive/{tag}.log"),
        ("/var/log/*.log", "", "/var/log/{tag}.ndjson"),
        ("/var/log/app-*.log", "", "/var/log/web-{tag}.log"),
        ("/var/log/**/*", "'*.gz'", "/var/log/archive/{tag}.ndjson.gz"),
        ("/var/log/**/*", "/var/log/archive/*", "/var/log/archive/{tag}.ndjson"),
        ("/var/log/app.log", "", "/var/log/archive.log"),
    ],
)
def test_what_is_apart(tmp_path: Path, glob: str, exclude: str, path: str) -> None:
    """Another folder, another ending or an exclusion: nothing is said."""
    assert _warnings(tmp_path, glob, exclude, path) == ()


_LOGGED = """
inputs:
  files: {type: tail, paths: ["%s"], exclude: ["*.gz"]}
pipelines: {all: {match: "**", stages: [redact]}}
outputs: {nothing: {type: blackhole}}
log: {file: /var/log/own.log, format: %s}
"""


@pytest.mark.parametrize(
    ("glob", "format_", "rotated"),
    [
        ("/var/log/*.log*", "plain", "own.log.1"),
        ("/var/log/*.log", "plain", "own-20260131.log"),
        ("/var/log/*-2*", "plain", "own.log-20260131"),
        ("/var/log/*.log*", "json", None),
        ("/var/log/*.log*", "auto", None),
        ("/var/log/app/*.log", "plain", None),
    ],
)
def test_a_rotated_log_in_plain_text(tmp_path: Path, glob: str, format_: str, rotated: str | None) -> None:
    """It is not known again: one warning at an input that would read it, by whichever name rotation gives it."""
    file = tmp_path / "c.yaml"
    file.write_text(_LOGGED % (glob, format_))
    found = load(str(file), {}).warnings
    assert [f"our own log where that is rotated, as /var/log/{rotated}:" in each for each in found] == [True] * bool(
        rotated
    )
