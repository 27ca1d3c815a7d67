"""One answer out of those of several spools or workers: numbers are added, of ages the greatest, by their shape.

What a value means stands in its name where its type does not say it: `…_age_seconds` and `uptime_seconds` are the
greatest, `oldest` is the least, `state` is the worst, everything else that is a number is a sum. Rows (lists of
objects) that differ only in their numbers and truths are one row, so that the ledger's rows are added and a sum is
closed if it is for all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

#: From the best to the worst; what is not here is worse than all of these.
STATES = ("up", "starting", "stopped", "waiting", "parked")
_GREATEST = ("_age_seconds", "uptime_seconds")
_NO_ROWS = ("held", "letters", "notes", "origins", "taken", "prefixes")  # of `why`: found here and there, never added


def together(answers: Sequence[Any], name: str = "") -> Any:
    """One answer; `name` is what the value is called in the object that has it."""
    there = [each for each in answers if each is not None]
    if len(there) < 2:
        return there[0] if there else None
    for kind, merge in _MERGES:
        if all(isinstance(each, kind) for each in there):
            return merge(there, name)
    raise TypeError(f"{name}: answers of several kinds")


def _objects(answers: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    keys = dict.fromkeys(key for each in answers for key in each)
    return {key: together([each[key] for each in answers if key in each], key) for key in keys}


def _lists(answers: Sequence[list[Any]], name: str) -> list[Any]:
    items = [item for each in answers for item in each]
    if name in _NO_ROWS or not all(isinstance(item, dict) for item in items):
        return list({json.dumps(item, sort_keys=True): item for item in items}.values())
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in items:
        words = {key: value for key, value in row.items() if not isinstance(value, int | float)}
        rows.setdefault(json.dumps(words, sort_keys=True), []).append(row)
    return [together(same) for same in rows.values()]


def _truths(answers: Sequence[bool], name: str) -> bool:
    return all(answers)


def _numbers(answers: Sequence[float], name: str) -> float:
    if name == "oldest":
        return min(answers)
    return max(answers) if name.endswith(_GREATEST) else sum(answers)


def _texts(answers: Sequence[str], name: str) -> str:
    different = list(dict.fromkeys(answers))
    if name == "state":
        return max(different, key=lambda state: STATES.index(state) if state in STATES else len(STATES))
    return "; ".join(different)


_MERGES: tuple[tuple[Any, Callable[[Any, str], Any]], ...] = (
    (dict, _objects),
    (list, _lists),
    (bool, _truths),
    (int | float, _numbers),
    (str, _texts),
)


def together_groups(answers: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Groups of dead letters, each signature once, the largest first; the reason is that of the newest letter."""
    groups: dict[str, dict[str, Any]] = {}
    for group in (group for answer in answers for group in answer):
        other = groups.get(group["signature"])
        if other is None:
            groups[group["signature"]] = group
            continue
        newer = max(group, other, key=lambda each: each["newest"])
        groups[group["signature"]] = {
            **newer,
            "letters": group["letters"] + other["letters"],
            "bytes": group["bytes"] + other["bytes"],
            "oldest": min(group["oldest"], other["oldest"]),
        }
    return sorted(groups.values(), key=lambda group: (-group["letters"], -group["newest"]))
