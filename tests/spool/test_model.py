"""The spool against a model of it: any order of commits, settlements and restarts keeps both the same."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mcp_ingest.event import Term
from mcp_ingest.spool import SpoolReader
from mcp_ingest.spool.model import OutputKey, Pending, Settlement
from tests.spool.making import OUTPUTS, chunk, intake, new_spool

_outputs = st.sampled_from(sorted(OUTPUTS))
_parked = st.lists(st.tuples(st.integers(0, 5), st.sampled_from("xy"), st.sets(st.integers(0, 19))), max_size=3)


class SpoolAgainstModel(RuleBasedStateMachine):
    """The model: for each output a mark, the chunks' event counts, pending rows; positions; counters."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="spool-model-"))
        self.owed: dict[str, dict[int, int]] = {output: {} for output in OUTPUTS}
        self.marks = dict.fromkeys(OUTPUTS, 0)
        self.stored = dict.fromkeys(OUTPUTS, 0)  # the marks as a restart finds them
        self.pending: dict[str, dict[tuple[int, str], set[int]]] = {output: {} for output in OUTPUTS}
        self.positions: dict[str, bytes] = {}
        self.assigned: Counter[str] = Counter()
        self.last = 0
        self._open()

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def _open(self) -> None:
        async def make() -> Any:
            spool = new_spool(self.directory, ballast=4096)
            await spool.open()
            return spool

        self.spool = self.run(make())

    def teardown(self) -> None:
        self.run(self.spool.close())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.directory)

    @rule(sizes=st.lists(st.tuples(st.integers(1, 20), st.sets(_outputs, min_size=1)), max_size=3))
    def commit(self, sizes: list[tuple[int, set[str]]]) -> None:
        self.run(self.spool.commit(intake(*(chunk(count, tuple(sorted(names))) for count, names in sizes))))
        for count, names in sizes:
            self.last += 1
            for name in names:
                if max(self.owed[name], default=0) <= self.marks[name]:  # it passes over what names others
                    self.marks[name] = self.last - 1
                self.owed[name][self.last] = count
                self.assigned[name] += count

    @rule(key=st.sampled_from("abc"), value=st.none() | st.binary(max_size=4))
    def move_position(self, key: str, value: bytes | None) -> None:
        self.run(self.spool.commit(intake(**{key: value})))
        if value is None:
            self.positions.pop(key, None)
        else:
            self.positions[key] = value

    @rule(output=_outputs, ahead=st.integers(-2, 4), parked=_parked)
    def settle(self, output: str, ahead: int, parked: list[tuple[int, str, set[int]]]) -> None:
        mark = max(0, self.marks[output] + ahead)
        rows = []
        moved = max(self.marks[output], min(mark, self.last))
        for back, destination, indices in parked:
            number = moved - back
            rows.append(Pending(output, number, destination, sorted(indices)))
        self.run(self.spool.settle(Settlement(output, mark, rows)))
        settled = {
            number
            for number in self.owed[output]
            if number <= self.marks[output] and not any(key[0] == number for key in self.pending[output])
        }
        if moved > self.marks[output]:
            self.marks[output] = self.stored[output] = moved
        for row in rows:
            if row.chunk not in self.owed[output] or row.chunk in settled:
                continue
            if row.indices:
                self.pending[output][row.chunk, row.destination] = set(row.indices)
            else:
                self.pending[output].pop((row.chunk, row.destination), None)

    @rule()
    def restart(self) -> None:
        self.run(self.spool.close())
        with SpoolReader(self.directory, OUTPUTS) as reader:
            assert {name: reader.held(name).events for name in OUTPUTS} == {name: self.held(name) for name in OUTPUTS}
            assert reader.positions() == self.positions
        self.marks = dict(self.stored)
        self._open()

    def held(self, output: str) -> int:
        fresh = sum(count for number, count in self.owed[output].items() if number > self.marks[output])
        waiting = sum(len(rows) for (number, _), rows in self.pending[output].items() if number <= self.marks[output])
        return fresh + waiting

    def owing(self, output: str) -> set[int]:
        return {
            number
            for number in self.owed[output]
            if number > self.marks[output] or any(key[0] == number for key in self.pending[output])
        }

    @invariant()
    def same(self) -> None:
        spool = self.spool
        assert spool.positions("") == self.positions
        for output in OUTPUTS:
            assert spool.mark(output) == self.marks[output]
            held = spool.held(output)
            assert held.events == self.held(output)
            assert (held.oldest is None) == (not self.owing(output))
            assert spool.ledger()[OutputKey(output, Term.ASSIGNED)] == self.assigned[output]
            fresh = self.run(spool.fresh(output, 0, 2**30))
            expected = sorted(number for number in self.owed[output] if number > self.marks[output])
            assert [each.number for each in fresh] == expected
            pending = self.run(spool.pending(output))
            assert {(row.chunk, row.destination): set(row.indices) for row in pending} == self.pending[output]
        assert spool.usage().chunks == len(set().union(*map(self.owing, OUTPUTS)))


TestSpoolAgainstModel = SpoolAgainstModel.TestCase
TestSpoolAgainstModel.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
