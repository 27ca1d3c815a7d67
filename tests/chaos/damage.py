"""Damaged spools: made by the real `Spool`, damaged, started again, counted. `python -m tests.chaos.damage --help`.

Each spool has chunks of one to eighty events for two outputs, some of them settled, some pending, and stands as it was
closed or as a `kill -9` left it, with its write-ahead log. A kind of damage is done to it, the spool is started, and
what an output would be given is held against what it was owed:

- it starts, and takes events;
- how many chunks are lost, beside those that the damage touches (a chunk of whose blob a byte was overwritten);
- what the ledger says is lost is what is lost, or more, never less; and all sums close.
"""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from mcp_ingest.engine import status
from mcp_ingest.errors import SpoolRenewedError
from mcp_ingest.event import Term
from mcp_ingest.spool import Spool
from mcp_ingest.spool.aside import LOG
from mcp_ingest.spool.chunk import encode
from mcp_ingest.spool.files import DATABASE
from mcp_ingest.spool.layout import tables
from mcp_ingest.spool.model import InputKey, Intake, LetterKey, OutputKey, Pending, Settlement
from mcp_ingest.spool.schema import PAGE
from mcp_ingest.spool.sums import SUMS
from tests.spool.making import OUTPUTS, chunk, intake, letter, new_spool

FIRST, SECOND = sorted(OUTPUTS)
_PIECE = 24  # bytes by which overwritten bytes are known as a chunk's

Owed = dict[str, set[tuple[int, str]]]  # by output: number of the chunk, id of the event


@dataclass(slots=True)
class Made:
    """A spool as it lies on the disk, and what it owes."""

    owed: Owed
    bodies: dict[int, bytes]
    last: int


@dataclass(slots=True)
class Outcome:
    """What became of one damaged spool. Chunks are counted, `lost` and `said` are events of all outputs."""

    kind: str
    seed: int
    touched: int
    chunks_lost: int
    lost: int
    said: int
    again: int
    closed: bool
    seconds: float
    trouble: str = ""

    @property
    def more(self) -> int:
        """Chunks that are lost although the damage did not touch them."""
        return max(0, self.chunks_lost - self.touched)


# --- making ------------------------------------------------------------------------------------------------


async def make(directory: Path, chunks: int, generator: random.Random, *, killed: bool) -> Made:
    """A spool with this many chunks; `killed`: as it is while the daemon runs."""
    running = directory.with_name(directory.name + "-running") if killed else directory
    spool = new_spool(running, ballast=generator.choice((2**20, 2**24)))
    await spool.open()
    for number in range(1, chunks + 1):
        await spool.commit(_intake(number, generator))
        if number % 10 == 0:
            await _settle(spool, number, generator)
    owed = await owing(spool)
    bodies = {number: body async for number, body in _bodies(spool, owed)}
    made = Made(owed, bodies, chunks)
    if killed:
        shutil.copytree(running, directory)
    await spool.close()
    return made


def _intake(number: int, generator: random.Random) -> Intake:
    count = generator.choice((1, 1, 5, 20, 80))
    outputs = generator.choice(((FIRST,), (FIRST, SECOND), (FIRST, SECOND)))
    line = b'{"message":"%s"}' % generator.randbytes(generator.choice((20, 100, 400))).hex().encode()
    made = intake(chunk(count, outputs, first=1000 * number, line=line), **{f"file{number % 7}": b"%d" % number})
    made.ledger[InputKey("forward", "mcp", Term.RECEIVED)] += count
    if number % 25 == 0:
        made.letters.append(letter())
        made.ledger[InputKey("forward", "mcp", Term.RECEIVED)] += 1
        made.ledger[InputKey("forward", "mcp", Term.DEAD_LETTERED, "refused")] += 1
        made.ledger[LetterKey(Term.DEAD_LETTERED, "refused")] += 1
    return made


async def _settle(spool: Spool, number: int, generator: random.Random) -> None:
    """The first output keeps up about half of the way, with a pending row here and there; the second is slower."""
    for name, part in ((FIRST, 3), (SECOND, 6)):
        mark = number // part
        fresh = [each for each in await spool.fresh(name, 0, 2**30) if each.number <= mark]
        if not fresh:
            continue
        parked = fresh[-1]
        place = parked.destinations[name].values[0]
        rows = [Pending(name, parked.number, str(place), [0])] if generator.random() < 0.5 else []
        done = sum(len(each.tags) for each in fresh) - len(rows)
        await spool.settle(Settlement(name, mark, rows, ledger=Counter({OutputKey(name, Term.DELIVERED): done})))


async def owing(spool: Spool) -> Owed:
    """What each output would be given now."""
    owed: Owed = {}
    for name in OUTPUTS:
        events = owed[name] = set()
        for each in await spool.fresh(name, 0, 2**40):
            events |= {(each.number, event) for event in each.ids}
        for row in await spool.pending(name):
            found = await spool.chunk(row.chunk)
            events |= {(row.chunk, found.ids[index]) for index in row.indices} if found else set()
    return owed


async def owing_after_all(spool: Spool) -> Owed:
    """The same, as a delivery asks that begins anew when damage is found on the way."""
    while True:
        try:
            for name in OUTPUTS:
                await spool.resting(name)
            return await owing(spool)
        except SpoolRenewedError:
            pass


async def _bodies(spool: Spool, owed: Owed) -> AsyncIterator[tuple[int, bytes]]:
    for number in sorted({number for events in owed.values() for number, _ in events}):
        found = await spool.chunk(number)
        assert found is not None
        yield number, encode(found, spool.uuid)


# --- damaging ----------------------------------------------------------------------------------------------

Damage = Callable[[Path, random.Random], list[bytes]]  # does it, and gives what stood there


def anywhere(directory: Path, generator: random.Random) -> list[bytes]:
    """4 KB of random bytes anywhere in the database or its log."""
    files = [path for path in (directory / DATABASE, directory / LOG) if path.exists() and path.stat().st_size]
    sizes = [path.stat().st_size for path in files]
    path = generator.choices(files, sizes)[0]
    return _overwrite(path, generator.randrange(path.stat().st_size), generator)


def first_page(directory: Path, generator: random.Random) -> list[bytes]:
    """The first page, which has the schema."""
    return _overwrite(directory / DATABASE, 0, generator)


def bits(directory: Path, generator: random.Random) -> list[bytes]:
    """A hundred bits, each anywhere in the database."""
    path = directory / DATABASE
    whole = path.read_bytes()
    damaged, places = bytearray(whole), generator.sample(range(len(whole)), 100)
    for at in places:
        damaged[at] ^= 1 << generator.randrange(8)
    path.write_bytes(damaged)
    return [whole[max(0, at - _PIECE // 2) : at + _PIECE // 2] for at in places]


def table_roots(directory: Path, generator: random.Random) -> list[bytes]:
    """The first pages of all tables and indexes."""
    roots = [table.root for table in tables()]
    return [each for root in roots for each in _overwrite(directory / DATABASE, (root - 1) * PAGE, generator)]


def cut_log(directory: Path, generator: random.Random) -> list[bytes]:
    """The log cut short anywhere."""
    path = directory / LOG
    data = path.read_bytes()
    at = generator.randrange(len(data))
    path.write_bytes(data[:at])
    return [data[at:]]


def torn_log(directory: Path, generator: random.Random) -> list[bytes]:
    """4 KB of the log."""
    path = directory / LOG
    return _overwrite(path, generator.randrange(path.stat().st_size), generator)


def no_log(directory: Path, generator: random.Random) -> list[bytes]:
    """The log deleted."""
    data = (directory / LOG).read_bytes()
    (directory / LOG).unlink()
    return [data]


def no_database(directory: Path, generator: random.Random) -> list[bytes]:
    """The database deleted, its log left behind."""
    data = (directory / DATABASE).read_bytes()
    (directory / DATABASE).unlink()
    return [data]


def cut_database(directory: Path, generator: random.Random) -> list[bytes]:
    """The database cut short anywhere."""
    path = directory / DATABASE
    data = path.read_bytes()
    at = generator.randrange(len(data))
    path.write_bytes(data[:at])
    return [data[at:]]


def no_sums(directory: Path, generator: random.Random) -> list[bytes]:
    """4 KB anywhere, and the file of sums deleted."""
    (directory / SUMS).unlink()
    return anywhere(directory, generator)


def torn_sums(directory: Path, generator: random.Random) -> list[bytes]:
    """4 KB anywhere, and both slots of the sums overwritten."""
    path = directory / SUMS
    path.write_bytes(generator.randbytes(path.stat().st_size))
    return anywhere(directory, generator)


def _overwrite(path: Path, start: int, generator: random.Random) -> list[bytes]:
    with path.open("r+b") as file:
        file.seek(start)
        gone = file.read(PAGE)
        file.seek(start)
        file.write(generator.randbytes(len(gone)))
    return [gone]


KINDS: dict[str, Damage] = {
    each.__name__.replace("_", " "): each
    for each in (anywhere, first_page, table_roots, bits, cut_database, no_database, torn_log, cut_log, no_log, no_sums,
                 torn_sums)
}  # fmt: skip
_OF_A_LOG = {"torn log", "cut log", "no log"}


def touched(made: Made, gone: list[bytes]) -> set[int]:
    """The chunks of which a byte is among those that are gone."""
    starts, start, joined = [], 0, b"".join(made.bodies.values())
    for number, body in made.bodies.items():
        starts.append((start, number))
        start += len(body)
    found: set[int] = set()
    for piece in gone:
        for at in range(0, max(1, len(piece) - _PIECE), _PIECE // 2):
            place = joined.find(piece[at : at + _PIECE])
            if place >= 0:
                found.add(max(each for each in starts if each[0] <= place)[1])
    return found


# --- starting again ----------------------------------------------------------------------------------------


async def look(directory: Path, made: Made, gone: list[bytes], kind: str, seed: int) -> Outcome:
    """Start the spool, and hold what it gives against what it owed."""
    began = time.perf_counter()
    spool = new_spool(directory, ballast=2**20)
    await spool.open()
    seconds = time.perf_counter() - began
    await spool.commit(_intake(made.last + 1, random.Random(0)))
    owed = await owing_after_all(spool)
    lost = {name: made.owed[name] - owed[name] for name in OUTPUTS}
    old = {name: {event for event in owed[name] if event[0] <= made.last} for name in OUTPUTS}
    again = sum(len(old[name] - made.owed[name]) for name in OUTPUTS)
    said = sum(count for key, count in spool.ledger().items() if isinstance(key, OutputKey) and key.term == Term.LOST)
    sums = status.sums(spool.ledger(), {name: spool.held(name).events for name in OUTPUTS}, spool.usage().dead_letters)
    trouble = [f"{each['sum']}: {each['left']} is not {each['right']}" for each in sums if not each["closed"]]
    await spool.close()
    chunks = {number for events in lost.values() for number, _ in events}
    events = sum(map(len, lost.values()))
    return Outcome(
        kind, seed, len(touched(made, gone)), len(chunks), events, said, again, not trouble, seconds, "; ".join(trouble)
    )


async def one(kind: str, chunks: int, seed: int) -> Outcome:
    """One spool, made, damaged and started again."""
    generator = random.Random(seed)
    base = Path(tempfile.mkdtemp(prefix="damaged-spool-"))
    directory = base / "spool"
    try:
        killed = kind in _OF_A_LOG or generator.random() < 0.5
        made = await make(directory, chunks, generator, killed=killed)
        gone = KINDS[kind](directory, generator)
        return await look(directory, made, gone, kind, seed)
    finally:
        shutil.rmtree(base)


@dataclass(slots=True)
class Figures:
    """What a run found, for one kind of damage."""

    kind: str
    outcomes: list[Outcome] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """For people, and for the docs."""
        count, lost = len(self.outcomes), sorted(each.chunks_lost for each in self.outcomes)
        within = sum(not each.more for each in self.outcomes)
        worst = max(self.outcomes, key=lambda each: each.chunks_lost)
        spread = Counter(lost)
        yield (
            f"{self.kind}: {count} spools, all started; {within} lost no more chunks than the damage touches;"
            f" chunks lost: median {lost[count // 2]}, worst {worst.chunks_lost} (touched {worst.touched});"
            f" slowest start {max(each.seconds for each in self.outcomes):.2f} s"
        )
        yield "  chunks lost: " + ", ".join(f"{n} in {spread[n]}" for n in sorted(spread))
        exact = sum(each.said == each.lost for each in self.outcomes)
        less = sum(each.said < each.lost for each in self.outcomes)
        yield (
            f"  the ledger says exactly what is lost in {exact}, more in {count - exact - less}, less in {less};"
            f" sums closed in {sum(each.closed for each in self.outcomes)}"
        )


async def run(kind: str, spools: int, chunks: int, seed: int) -> Figures:
    """As many spools, each with a seed of its own."""
    return Figures(kind, [await one(kind, chunks, seed * 100_000 + number) for number in range(spools)])


@click.command()
@click.option("--spools", default=200, show_default=True, help="Spools for 4 KB anywhere.")
@click.option("--each", default=20, show_default=True, help="Spools for each of the other kinds.")
@click.option("--chunks", default=150, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--kind", "kinds", multiple=True, type=click.Choice([*KINDS]), help="This kind of damage alone.")
def command(spools: int, each: int, chunks: int, seed: int, kinds: tuple[str, ...]) -> None:
    """Damage many spools, start them, and print what they lost."""
    log = logging.getLogger("mcp_ingest.test")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        for kind in kinds or KINDS:
            figures = asyncio.run(run(kind, spools if kind == "anywhere" else each, chunks, seed))
            click.echo("\n".join(figures.lines()))
            for outcome in figures.outcomes:
                if outcome.more or outcome.trouble or outcome.said < outcome.lost:
                    click.echo(f"    {outcome}")
    finally:
        log.setLevel(level)


if __name__ == "__main__":
    command()
