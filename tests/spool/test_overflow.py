"""What has to be let go when a bound is passed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcp_ingest.component import ByteSize
from mcp_ingest.spool.model import SpoolSettings
from mcp_ingest.spool.overflow import Bound, Cut, InHand, cuts, why_full
from mcp_ingest.spool.truth import OutputState, Space, Truth

MiB = 2**20


def _truth(used: int = 0, **owed: int) -> Truth:
    """Outputs by name with the bytes that they owe; `gone` is not configured any more."""
    truth = Truth()
    truth.space = Space(used * MiB)
    for number, (name, size) in enumerate(owed.items(), 1):
        truth.outputs[number] = OutputState(number, name, "file", 0, bytes=size * MiB)
        if name != "gone":
            truth.ids[name] = number
    return truth


def _settings(when_full: str = "block", directory: Path = Path("spool")) -> SpoolSettings:
    return SpoolSettings(
        directory=str(directory),
        max_bytes=ByteSize(160 * MiB),
        when_full=when_full,  # type: ignore[arg-type]
        max_removed_backlog=ByteSize(32 * MiB),
    )


SPARE = {"spare": Bound(best_effort=True)}


def test_nothing_goes_below_the_bounds() -> None:
    """Outputs that owe much are no reason by themselves, whatever the policy."""
    for policy in ("block", "reject", "drop_oldest"):
        assert cuts(_truth(used=159, main=100, spare=50, gone=9), _settings(policy), SPARE, 0) == []
        assert why_full(_truth(used=159, main=100), _settings(policy), SPARE) is None


@pytest.mark.parametrize("policy", ["block", "reject"])
def test_a_full_spool_lets_go_of_what_is_best_effort(policy: str) -> None:
    """Best-effort and removed outputs go first, and with these policies alone, down to a sixteenth below."""
    (cut,) = cuts(_truth(used=160, main=100, spare=50, gone=10), _settings(policy), SPARE, 0)
    assert cut == Cut([{2: "best_effort", 3: "removed_output"}], 10 * MiB, frees=True)
    assert why_full(_truth(used=160, main=100), _settings(policy), SPARE) == "the spool is full"
    assert cuts(_truth(used=160, main=160, spare=0), _settings(policy), SPARE, 0) == []


def test_drop_oldest_comes_to_the_required_ones_last() -> None:
    """The second tier has all outputs that owe something, each with its own reason."""
    (cut,) = cuts(_truth(used=170, main=100, spare=50, idle=0), _settings("drop_oldest"), SPARE, 0)
    assert cut.tiers == [{2: "best_effort"}, {2: "best_effort", 1: "drop_oldest"}]
    assert cut.size == 20 * MiB


def test_who_keeps_up_loses_nothing_to_who_does_not() -> None:
    """An output that owes little comes last: what it owes is not what fills the spool."""
    (cut,) = cuts(_truth(used=170, dead=160, alive=10, spare=1), _settings("drop_oldest"), SPARE, 0)
    every = {3: "best_effort", 1: "drop_oldest", 2: "drop_oldest"}
    assert cut.tiers == [{3: "best_effort"}, {3: "best_effort", 1: "drop_oldest"}, every]


def test_a_full_disk_counts_like_a_full_spool() -> None:
    """What the disk is short of is let go, though the spool is far from its limit."""
    (cut,) = cuts(_truth(used=1, main=1), _settings("drop_oldest"), {}, 5 * MiB)
    assert cut == Cut([{1: "drop_oldest"}], 5 * MiB, frees=True)


def test_a_best_effort_output_has_its_budget() -> None:
    """Above `max_backlog` its own oldest go, also of chunks that others owe; nobody else is concerned."""
    bounds = {"spare": Bound(best_effort=True, max_backlog=16 * MiB)}
    (cut,) = cuts(_truth(used=60, main=50, spare=17), _settings(), bounds, 0)
    assert cut == Cut([{2: "over_budget"}], 2 * MiB, frees=False)
    assert why_full(_truth(used=60, main=50, spare=17), _settings(), bounds) is None


@pytest.mark.parametrize("policy", ["block", "reject"])
def test_a_required_outputs_budget_stops_the_inputs(policy: str) -> None:
    """With `block` and `reject` nothing of it goes: no more is taken."""
    bounds = {"main": Bound(max_backlog=16 * MiB)}
    assert cuts(_truth(used=60, main=17), _settings(policy), bounds, 0) == []
    assert (
        why_full(_truth(used=60, main=17), _settings(policy), bounds)
        == "the spool is full for output main (max_backlog)"
    )
    assert why_full(_truth(used=60, main=16), _settings(policy), bounds) is None


def test_drop_oldest_holds_for_a_required_outputs_budget() -> None:
    """Its oldest go, and no input waits for it."""
    bounds = {"main": Bound(max_backlog=16 * MiB)}
    (cut,) = cuts(_truth(used=60, main=17), _settings("drop_oldest"), bounds, 0)
    assert cut == Cut([{1: "over_budget"}], 2 * MiB, frees=False)
    assert why_full(_truth(used=60, main=17), _settings("drop_oldest"), bounds) is None


def test_a_removed_output_has_a_bound_of_its_own() -> None:
    """Above `max_removed_backlog` its oldest go, whatever the policy; below, it waits."""
    (cut,) = cuts(_truth(used=60, main=50, gone=33), _settings(), {}, 0)
    assert cut == Cut([{2: "removed_output"}], 3 * MiB, frees=False)
    assert cuts(_truth(used=60, main=50, gone=32), _settings(), {}, 0) == []


def test_what_is_in_hand() -> None:
    """A range, open below and closed above, and single chunks."""
    hand = InHand(3, 5, frozenset({1}))
    assert [number for number in range(8) if number in hand] == [1, 4, 5]
