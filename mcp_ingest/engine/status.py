"""What `status` shows: the graph, the spool, the ledger, and whether its three sums close."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mcp_ingest.event import Term
from mcp_ingest.spool.aside import Notice
from mcp_ingest.spool.model import Held, InputKey, Ledger, LetterKey, OutputKey, Usage

_IN_LEFT = (Term.RECEIVED, Term.GENERATED)
_IN_RIGHT = (Term.ACCEPTED, Term.FILTERED, Term.JOINED, Term.DEDUPLICATED, Term.DEAD_LETTERED, Term.DROPPED)
_OUT_LEFT = (Term.ASSIGNED, Term.REPLAYED)
_OUT_RIGHT = (Term.DELIVERED, Term.DUPLICATE, Term.REDIRECTED, Term.DEAD_LETTERED, Term.DROPPED, Term.LOST)
_LETTERS_RIGHT = (Term.REPLAYED, Term.EXPIRED, Term.DELETED, Term.LOST)


def sums(ledger: Ledger, held: Mapping[str, int], kept: int) -> list[dict[str, Any]]:
    """The sums of promise 3, one for each input and output and one for the dead letters.

    `held` are the events that each output still owes, `kept` the dead letters that are there.
    """
    ins: Counter[tuple[str, Term]] = Counter()
    outs: Counter[tuple[str, Term]] = Counter()
    letters: Counter[Term] = Counter()
    for key, count in ledger.items():
        if isinstance(key, InputKey):
            ins[key.input, key.term] += count
        elif isinstance(key, OutputKey):
            outs[key.output, key.term] += count
        else:
            letters[key.term] += count
    made = [
        _sum(f"way in: {name}", _total(ins, name, _IN_LEFT), _total(ins, name, _IN_RIGHT))
        for name in sorted({name for name, _ in ins})
    ]
    for name in sorted({name for name, _ in outs} | set(held)):
        right = _total(outs, name, _OUT_RIGHT) + held.get(name, 0)
        made.append(_sum(f"output: {name}", _total(outs, name, _OUT_LEFT), right))
    right = kept + sum(letters[term] for term in _LETTERS_RIGHT)
    made.append(_sum("dead letters", letters[Term.DEAD_LETTERED], right))
    return made


def owed(held: Mapping[str, Held], removed: Mapping[str, Held]) -> dict[str, int]:
    """What each output owes, by the name that the ledger has; `removed` are by `name (type)`, as the spool has them."""
    counts = Counter({name: each.events for name, each in held.items()})
    for name, each in removed.items():
        counts[name.rpartition(" (")[0]] += each.events
    return dict(counts)


def _total(counts: Counter[tuple[str, Term]], name: str, terms: tuple[Term, ...]) -> int:
    return sum(counts[name, term] for term in terms)


def _sum(name: str, left: int, right: int) -> dict[str, Any]:
    return {"sum": name, "left": left, "right": right, "closed": left == right}


def ledger_rows(ledger: Ledger) -> dict[str, list[dict[str, Any]]]:
    """The ledger as rows of JSON, in a stable order."""
    rows: dict[str, list[dict[str, Any]]] = {"inputs": [], "outputs": [], "dead_letters": []}
    places = {InputKey: "inputs", OutputKey: "outputs", LetterKey: "dead_letters"}
    for key, count in sorted(ledger.items(), key=lambda item: (type(item[0]).__name__, item[0])):
        rows[places[type(key)]].append({**key._asdict(), "count": count})
    return rows


def spool_status(usage: Usage, now: int) -> dict[str, Any]:
    """How full the spool is; `now` in nanoseconds since 1970."""
    return {
        "bytes": usage.bytes,
        "max_bytes": usage.max_bytes,
        "wal_bytes": usage.wal_bytes,
        "chunks": usage.chunks,
        "oldest_age_seconds": age(usage.oldest, now),
        "dead_letters": usage.dead_letters,
        "dead_letter_bytes": usage.letters.bytes,
        "oldest_dead_letter_age_seconds": age(usage.letters.oldest, now),
    }


def damage(notices: Sequence[Notice], trouble: str) -> dict[str, Any]:
    """What the disk has done to the spool, and why nothing can be written now, if so."""
    return {"damage": [asdict(notice) for notice in notices], "trouble": trouble or None}


def lost(ledger: Ledger, output: str) -> dict[str, int]:
    """Events that an output has lost, by the reason."""
    return {
        key.reason: count
        for key, count in ledger.items()
        if isinstance(key, OutputKey) and (key.output, key.term) == (output, Term.LOST) and count
    }


def age(moment: int | None, now: int) -> float | None:
    """Seconds from `moment` to `now`, both nanoseconds since 1970."""
    return None if moment is None else max(0, now - moment) / 1e9


class Rates:
    """Events a second over the last half minute, from samples of running totals."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Counter[str]]] = deque(maxlen=7)

    def sample(self, now: float, totals: Counter[str]) -> None:
        """Remember these totals; call it every five seconds or so. `now` is monotonic."""
        self._samples.append((now, totals))

    def rate(self, name: str, now: float, total: int) -> float:
        """Events a second of this name since the oldest sample."""
        if not self._samples:
            return 0.0
        then, totals = self._samples[0]
        return (total - totals[name]) / max(now - then, 0.001)


def received(ledger: Ledger) -> Counter[str]:
    """Events received, by input."""
    return _by_name(ledger, InputKey, (Term.RECEIVED,))


def delivered(ledger: Ledger) -> Counter[str]:
    """Events that are with their peer, by output."""
    return _by_name(ledger, OutputKey, (Term.DELIVERED, Term.DUPLICATE, Term.REDIRECTED))


def _by_name(ledger: Ledger, kind: type[InputKey] | type[OutputKey], terms: tuple[Term, ...]) -> Counter[str]:
    totals: Counter[str] = Counter()
    for key, count in ledger.items():
        if isinstance(key, kind) and key.term in terms:
            totals[key[0]] += count
    return totals
