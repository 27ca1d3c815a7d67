"""Columns that cost little: of few different values, or made only when somebody looks at them.

Most events pass without anybody asking for their times, and most batches go to one place under one tag.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import repeat
from typing import Any, TypeVar, overload

Value = TypeVar("Value")

_SECOND = 1_000_000_000
#: Nanoseconds in the last digit of a fraction, by its number of digits.
_FRACTION: list[int] = [10**power for power in range(9, -1, -1)]


class Coded(Sequence[Value]):
    """A column of few different values: `values`, each once, and for each place an index into them.

    `indices` is None where there is one value for all places.
    """

    __slots__ = ("_length", "indices", "values")

    def __init__(self, values: Sequence[Value], length: int, indices: Sequence[int] | None = None) -> None:
        self.values = values
        self.indices = indices
        self._length = length

    @classmethod
    def of(cls, column: Sequence[Value]) -> Coded[Value]:
        """The column, coded."""
        values = list(dict.fromkeys(column))
        if len(values) < 2:
            return cls(values, len(column))
        places = {value: place for place, value in enumerate(values)}
        return cls(values, len(column), array(index_code(len(values)), map(places.__getitem__, column)))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Value]:
        if self.indices is None:
            return repeat(self.values[0], self._length) if self._length else iter(())
        return map(self.values.__getitem__, self.indices)

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> list[Value]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [*self][index]
        place = range(self._length)[index]
        return self.values[0 if self.indices is None else self.indices[place]]

    def __eq__(self, other: object) -> bool:
        return [*self] == (other if isinstance(other, list) else [*other] if isinstance(other, Sequence) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr([*self])


def index_code(values: int) -> str:
    """The array's type that holds an index of so many values: one, two or four bytes."""
    return "B" if values <= 256 else "H" if values <= 65_536 else "I"


class Late(Sequence[Value]):
    """A sequence of so many values, all made by `make` at the first look at one of them."""

    __slots__ = ("_count", "_make", "_values")

    def __init__(self, count: int, make: Callable[[], list[Value]]) -> None:
        self._count = count
        self._make = make
        self._values: list[Value] | None = None

    @property
    def values(self) -> list[Value]:
        """All of them, as a list."""
        if self._values is None:
            self._values = self._make()
        return self._values

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Value]:
        return iter(self.values)

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> list[Value]: ...
    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __eq__(self, other: object) -> bool:
        return self.values == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.values)


class Stamps(Late[int]):
    """Times in nanoseconds since 1970, of texts in the form `2026-11-22T15:00:00.123456789Z`."""

    __slots__ = ("_texts",)

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__(len(texts), lambda: [nanoseconds(text) or 0 for text in texts])
        self._texts = texts

    def span(self) -> tuple[int, int]:
        """The earliest and the latest, each to the second: in this form the order of texts is that of times."""
        first, last = min(self._texts), max(self._texts)
        return _second(first[:19]) or 0, _second(last[:19]) or 0


def nanoseconds(text: str) -> int | None:
    """The time that a text in that form says, with up to nine digits of fraction; None for other forms."""
    length = len(text)
    if not 20 <= length <= 30 or text[-1] != "Z":
        return None
    seconds = _second(text[:19])
    if seconds is None or length == 20:
        return seconds
    fraction = text[20:-1]
    if text[19] != "." or not (fraction.isascii() and fraction.isdigit()):
        return None
    return seconds + int(fraction) * _FRACTION[length - 21]


@lru_cache(4096)
def _second(text: str) -> int | None:
    """Nanoseconds of a whole second: one after the other, so that the cache answers nearly all."""
    try:
        moment = datetime.strptime(text + "+0000", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None
    return int(moment.timestamp()) * _SECOND
