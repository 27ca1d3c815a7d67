"""What `check` says of a configuration that runs all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.config.load import load
from mcp_ingest.errors import ConfigError

_CONFIG = """
inputs: {forward: {}}
pipelines:
  all: {match: "**", stages: [redact], outputs: [%s]}
outputs:
  main: {type: stdout}
  spare: {type: stdout, best_effort: true, max_backlog: 1GiB}
  other: {type: stdout, best_effort: true}
spool: {max_bytes: %s}
"""


def _load(tmp_path: Path, text: str) -> tuple[str, ...]:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return tuple(each.removeprefix(str(path)) for each in load(str(path), {}).warnings)


def test_a_pipeline_needs_somebody_who_keeps_its_events(tmp_path: Path) -> None:
    """All outputs best effort is a warning at the pipeline; one required output is enough."""
    (warning,) = _load(tmp_path, _CONFIG % ("spare, other", "8GiB"))
    assert warning.startswith(":4:3: all outputs of pipeline `all` are `best_effort`")
    assert _load(tmp_path, _CONFIG % ("main, spare", "8GiB")) == ()


def test_a_budget_that_is_never_reached(tmp_path: Path) -> None:
    """A backlog larger than the spool is a warning at the output, with the bytes that it is held against."""
    (warning,) = _load(tmp_path, _CONFIG % ("main, spare", "1GiB"))
    assert (
        warning
        == ":7:17: max_backlog of `spare` is never reached: the spool's max_bytes (1073741824 bytes) is not larger"
    )


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("max_backlog: 1GiB", "max_backlog: 10KiB", ":7:57: max_backlog: must be at least 64KiB"),
        ("best_effort: true,", "best_efort: true,", "`best_efort` is no setting — did you mean `best_effort`?"),
        ("max_backlog: 1GiB", "max_request_bytes: 0", ":7:63: max_request_bytes: must be more than 0"),
        ("max_backlog: 1GiB", "request_seconds: 0", "request_seconds: must be more than 0"),
        ("max_bytes: 8GiB", "when_full: drop", "when_full: 'drop' is none of block, drop_oldest, reject"),
        ("spool: {", "memory: {max_in_flight: 1MiB}\nspool: {", "max_in_flight: must be at least 16MiB"),
        ("forward: {}", "mcp-ingest: {type: forward}", "an input cannot be called `mcp-ingest`"),
    ],
)
def test_what_is_wrong_with_a_bound_is_an_error_at_its_place(
    tmp_path: Path, before: str, after: str, says: str
) -> None:
    """Wrong bounds and policies do not load."""
    text = (_CONFIG % ("main, spare", "8GiB")).replace(before, after)
    with pytest.raises(ConfigError) as error:
        _load(tmp_path, text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("stages", "warning"),
    [
        ("[parse_json, redact, {drop: {when: 'a == 1'}}]", None),
        ("[redact, parse_json, redact]", None),
        ("[{redact: {packs: [], rules: [{name: a, pattern: b}]}}]", None),
        ("[parse_json]", ":4:3: pipeline `all` has no `redact`: card numbers and secrets reach the disk"),
        ("[{redact: {packs: []}}]", ":4:3: pipeline `all` has no `redact`: card numbers and secrets reach the disk"),
        (
            "[redact, parse_json]",
            ":4:39: `parse_json` stands behind the last `redact` of pipeline `all`: "
            "what it takes out of a text is not masked",
        ),
    ],
)
def test_what_would_reach_the_disk_unmasked(tmp_path: Path, stages: str, warning: str | None) -> None:
    """No `redact`, one that looks for nothing, and a parser behind it, which brings to light what it could not see."""
    text = _CONFIG.replace("[redact]", stages) % ("main, spare", "8GiB")
    assert _load(tmp_path, text) == ((warning,) if warning else ())
