"""A short run of damaged spools; the long one is `python -m tests.chaos.damage`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.chaos.damage import KINDS, command, make, one, touched

_EXACT = {"first page", "cut log", "no log"}


@pytest.mark.parametrize("kind", KINDS)
async def test_damage_is_bounded_and_told(kind: str) -> None:
    """Whatever is damaged: the spool starts, its sums close, and what it says is lost is not less than what is."""
    for seed in range(2):
        outcome = await one(kind, 40, seed)
        assert outcome.closed, outcome
        assert outcome.said >= outcome.lost, outcome
        if kind in _EXACT:
            assert outcome.said == outcome.lost, outcome
        if kind != "bits":  # of which each may lead a chunk astray without being a part of it
            assert not outcome.more, outcome


async def test_touched_are_the_chunks_whose_bytes_are_gone(tmp_path: Path) -> None:
    """A chunk's own bytes touch it alone, and bytes of nobody touch none."""
    made = await make(tmp_path / "spool", 12, random.Random(1), killed=False)
    number, body = max(made.bodies.items(), key=lambda each: len(each[1]))
    assert touched(made, [body[-500:-400]]) == {number}
    assert touched(made, [bytes(4096)]) == set()


def test_the_figures_are_printed() -> None:
    """A line for each kind: how many started, what was lost, what the ledger said."""
    result = CliRunner().invoke(command, ["--each", "2", "--chunks", "12", "--kind", "first page"])
    assert result.exit_code == 0, result.output
    assert "first page: 2 spools, all started; 2 lost no more chunks than the damage touches" in result.output
    assert "the ledger says exactly what is lost in 2" in result.output
