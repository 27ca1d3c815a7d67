"""Masking: every place of a record, nothing missed by the search of the batch, failures closed."""

import copy
import re
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_ingest.errors import ConfigError, StageError
from mcp_ingest.masking import DEAD_LETTER_PACKS, MAX_DEPTH, Masker
from mcp_ingest.masking_rules import is_card_number

CARD = "4111111111111111"
MASKER = Masker()


def masked(record: Any) -> Any:
    return MASKER.mask_record(record)[0]


def test_every_place() -> None:
    """Texts, numbers, keys, lists and nested maps are masked, the count is by rule, and the rest stays the same."""
    record = {
        "message": f"card {CARD}",
        "number": int(CARD),
        "float": float(CARD),
        "negative": -int(CARD),
        "list": [1, {"deep": ["alice@example.com", None, True]}],
        "nested": {"bob@example.com": 1, CARD: {"x": 2}},
        "bytes": b"\xff password=hunter2",
        "tuple": (f"{CARD}", 1),
        "clean": {"a": [1, 2.5, "text"]},
    }
    before = copy.deepcopy(record)
    result, counts = MASKER.mask_record(record)
    assert result == {
        "message": "card [REDACTED:card]",
        "number": "[REDACTED:card]",
        "float": "[REDACTED:card]",
        "negative": "[REDACTED:card]",
        "list": [1, {"deep": ["[REDACTED:email]", None, True]}],
        "nested": {"[REDACTED:email]": 1, "[REDACTED:card]": {"x": 2}},
        "bytes": b"\xff password=[REDACTED:secret]",
        "tuple": ["[REDACTED:card]", 1],
        "clean": {"a": [1, 2.5, "text"]},
    }
    assert counts == {"card": 6, "email": 2, "secret": 1}
    assert record == before
    assert result["clean"] is record["clean"]
    assert list(result) == list(record)


@pytest.mark.parametrize("key", ["password", "user_passwd", "X-Api-Key", "apiKey", "access_token", "Authorization",
                                 "clientSecret", "DB_PASSWORD", "private key", "password2", "passwordConfirm",
                                 "credentials", "Set-Cookie"])  # fmt: skip
@pytest.mark.parametrize("value", ["hunter2", 12345, 1.5, {"a": {"b": "c"}}, ["a"], b"abc"])
def test_fields_named_like_secrets(key: str, value: Any) -> None:
    """The whole value of a field that is named like a secret is masked, whatever it is."""
    rule = "cookie" if key == "Set-Cookie" else "secret"
    assert masked({"a": {key: value}}) == {"a": {key: f"[REDACTED:{rule}]"}}
    assert masked({key: None, "a": 1}) == {key: None, "a": 1}
    assert masked({key: True}) == {key: True}
    assert masked({key: ""}) == {key: ""}


@pytest.mark.parametrize("key", ["prompt_tokens", "token_count", "password_changed_at", "tokenizer", "secretary"])
def test_fields_that_only_sound_like_secrets(key: str) -> None:
    """Counts of tokens and the like stay as they are."""
    assert masked({key: 12}) == {key: 12}


def test_keys_that_become_equal() -> None:
    """Two keys that are masked to the same text are numbered, so that no value is lost."""
    record = {"[REDACTED:email]": 0, "a@example.com": 1, "b@example.com": 2}
    assert masked(record) == {"[REDACTED:email]": 0, "[REDACTED:email]#2": 1, "[REDACTED:email]#3": 2}


def test_clean_record_is_the_same_object() -> None:
    """A record in which nothing is found comes back itself."""
    record = {"a": [{"b": "text"}], "c": 1}
    assert masked(record) is record


def test_nested_too_deep_fails_closed() -> None:
    """What is nested deeper than the limit cannot be masked and is an error."""
    value: Any = CARD
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    with pytest.raises(StageError, match="nested deeper"):
        masked({"a": value})
    result = MASKER.mask_records([{"a": 1}, {"a": value}, {"a": CARD}])
    assert list(result.errors) == [1]
    assert result.records == {2: {"a": "[REDACTED:card]"}}


def test_far_too_deep_fails_closed() -> None:
    """What is nested so deep that JSON cannot be written of it is an error, too, for a map as for a list."""
    lists: Any = []
    maps: Any = {}
    for _ in range(5000):
        lists, maps = [lists], {"a": maps}
    result = MASKER.mask_records([{"a": lists}, {"a": maps}, {"a": "x@example.com"}])
    assert sorted(result.errors) == [0, 1]
    assert list(result.records) == [2]


def test_unknown_types_fail_closed() -> None:
    """A type that JSON has not cannot be masked and is an error; one that orjson writes is looked at as text."""
    with pytest.raises(StageError, match="type object"):
        masked({"a": object()})
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert masked({"a": moment}) == {"a": moment}


def test_what_json_cannot_hold() -> None:
    """Lone surrogates, integers beyond 64 bits and keys that are no texts do not keep a record from being masked."""
    records: list[Any] = [
        {"a": f"\ud800 {CARD}"},
        {"a": 10**30, "b": CARD},
        {int(CARD): 1, "b": 2},
        {"a": float("nan"), "b": float("inf"), "c": float(CARD)},
        {"a": 1},
        {"password": "\ud800"},
    ]
    result = MASKER.mask_records(records)
    assert result.errors == {}
    assert result.records == {
        5: {"password": "[REDACTED:secret]"},
        0: {"a": "? [REDACTED:card]"},
        1: {"a": 10**30, "b": "[REDACTED:card]"},
        2: {"[REDACTED:card]": 1, "b": 2},
        3: {"a": records[3]["a"], "b": float("inf"), "c": "[REDACTED:card]"},
    }


def test_exempt_fields() -> None:
    """A name is exempt at any depth, a dotted path where it stands, a flat dotted name too."""
    masker = Masker(exempt_fields=["order", "a.card", "b.token"])
    record = {"order": CARD, "x": {"order": {"y": CARD}}, "a": {"card": CARD, "more": CARD}, "card": CARD, "b.token": 1}
    assert masker.mask_record(record)[0] == {
        "order": CARD,
        "x": {"order": {"y": CARD}},
        "a": {"card": CARD, "more": "[REDACTED:card]"},
        "card": "[REDACTED:card]",
        "b.token": 1,
    }
    assert masker.mask_records([record]).records[0] == masker.mask_record(record)[0]


def test_packs() -> None:
    """Only the packs that are asked for look; an unknown one is a mistake; dead letters have both."""
    text = f"{CARD} a@example.com"
    assert Masker(["pci"]).mask_text(text) == "[REDACTED:card] a@example.com"
    assert Masker(["secrets"]).mask_text(text) == f"{CARD} [REDACTED:email]"
    assert Masker(DEAD_LETTER_PACKS).mask_text(text) == "[REDACTED:card] [REDACTED:email]"
    assert Masker([]).mask_records([{"a": text}]).records == {}
    with pytest.raises(ConfigError, match="'pcy' is not a pack"):
        Masker(["pcy"])


def test_custom_rules_in_a_batch() -> None:
    """A user's rule finds in a batch what it finds in a single record: over escapes, with anchors, in numbers."""
    records: list[dict[str, Any]] = [
        {"a": "x 12-34 y"},
        {"a": "line\n12-34"},
        {"a": 'say "12-34"'},
        {"a": "12", "b": "34"},
        {"a": 991234, "12-34": 1},
        {"a": "clean"},
    ]
    for pattern in (r"\d\d-\d\d", r"^\d\d-\d\d$", r'"\d\d-\d\d"', r"\n\d\d-", r"\b99\d{4}\b", r"[^a]2-3", r"(?s)x.*y"):
        masker = Masker([], [("own", pattern, None)])
        batch = masker.mask_records(records)
        for index, record in enumerate(records):
            alone, counts = masker.mask_record(record)
            assert batch.records.get(index, record) == alone
            assert (index in batch.records) == bool(counts)


def test_a_rule_that_matches_over_the_end_of_a_line() -> None:
    """A user's rule whose match takes in several events of the batch's JSON has all of them looked at."""
    masker = Masker([], [("own", r"4[^5]+", None)])
    records: list[dict[str, Any]] = [
        {"a": "1", "b": "x"},
        {"a": "94 x"},
        {"a": 1, "b": "47"},
        {"a": "54 y", "b": 4},
        {"c": 1},
    ]
    result = masker.mask_records(records)
    mark = "[REDACTED:own]"
    assert result.records == {1: {"a": f"9{mark}"}, 2: {"a": 1, "b": mark}, 3: {"a": f"5{mark}", "b": 4}}
    for index, record in enumerate(records):
        assert result.records.get(index, record) == masker.mask_record(record)[0]


def test_bytes_that_are_no_utf8() -> None:
    """Undecodable bytes are masked where something is found, and otherwise left as they are."""
    assert MASKER.mask_bytes(b"4111111111111111\xff") == b"[REDACTED:card]\xff"
    assert MASKER.mask_bytes(b"\xff4111111111111111") == b"\xff[REDACTED:card]"
    assert MASKER.mask_bytes(b"\xff\xfe 4111 1111 1111 1111 \xff") == b"\xff\xfe [REDACTED:card] \xff"
    assert MASKER.mask_bytes(b"\x00\xff") == b"\x00\xff"


def test_undecodable_messagepack() -> None:
    """In a frame that could not be decoded the text behind a secret's name is overwritten, long or short or cut off."""
    for secret in ("hunter2", "x" * 100, "y" * 300, "z" * 70_000):
        packed = msgpack.packb({"user": "me", "password": secret, "next": 1})
        assert MASKER.mask_bytes(packed + b"\xc1") == packed.replace(secret.encode(), b"*" * len(secret)) + b"\xc1"
        assert secret.encode()[:5] not in MASKER.mask_bytes(packed[: -len(secret)])


_PIECES = [
    *(CARD, "4111 1111 1111 1111", "378282246310005", "5500-0000-0000-0004", "cvv", "123", "12 ", "1.", "0", "f"),
    *("password", "token", "api_key", "cookie", "=", ":", '"', "'", "\\", "\n", "\t", "\x00", "\x1f", "\x7f"),
    *(
        "Bearer ",
        "abc123def",
        "Basic dXNlcjpwYXNz",
        "Bearer\tabc123def",
        "https://",
        "user:",
        "p@ss",
        "@",
        "%40",
        "alice@example.com",
    ),
    *("ghp_abcdefghijklmnopqrst", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.x", "[REDACTED:card]"),
    *("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----", "\\u0000", "\\n", "{", "}", "[", "]"),
    *("-", " ", "\u00a0", "é", "\u212a", "\u017f", "\uff14", "\ud800", "a", "/", ".", ",", ";"),
]
_TEXTS = st.lists(st.sampled_from(_PIECES), max_size=6).map("".join)
_LEAVES: st.SearchStrategy[Any] = st.one_of(
    _TEXTS,
    st.sampled_from([int(CARD), float(CARD), -int(CARD), 4.111111111111111e15, 4000000000000000006, 4e18, 6.3e16]),
    st.integers(),
    st.floats(),
    st.none() | st.booleans(),
)
_VALUES: st.SearchStrategy[Any] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3), max_leaves=8
)
_RECORDS = st.lists(st.dictionaries(_TEXTS, _VALUES, max_size=4), max_size=4)


def check(records: list[dict[str, Any]]) -> None:
    result = MASKER.mask_records(records)
    assert result.errors == {}
    expected = [MASKER.mask_record(record) for record in records]
    for index, (record, counts) in enumerate(expected):
        assert repr(result.records.get(index, records[index])) == repr(record)
        assert (index in result.records) == bool(counts)
    assert result.counts == sum((counts for _, counts in expected), start=Counter())
    assert result.lines is not None
    for index, line in enumerate(result.lines):
        assert line == (
            b"" if index in result.records or not _is_json(records[index]) else orjson.dumps(records[index])
        )


def _is_json(record: dict[str, Any]) -> bool:
    try:
        orjson.dumps(record)
    except TypeError:
        return False
    return True


def test_the_batch_search_knows_every_neighbour() -> None:
    """A batch is masked as its records are, whatever stands next to a secret, escaped by JSON or not."""
    control = list(map(chr, range(32)))
    texts = [a + b for a in [*_PIECES, *control] for b in [*_PIECES, *control]]
    texts += [f"{a}{b}{CARD}" for a in [*_PIECES, *control] for b in (".", "-", " ", "1", "1.")]
    texts += [f"password{a}{b}=x" for a in [*_PIECES, *control] for b in ("", " ", '"', "\t")]
    check([{"a": text} for text in texts])
    check([{text: 1} for text in texts])
    check([{"a": first, second: third} for first in _PIECES for second, third in (*pairwise(_PIECES), (CARD, CARD))])
    check([{"a": value} for value in (3.962148555758157e16, -3.962148555758157e16, [6.3e16, 6.3e16], 4e18)])
    check([{"a": first, "b": second} for first in (int(CARD), [float(CARD)], CARD) for second in (*_PIECES, 6.3e16)])


@settings(max_examples=200, deadline=None)
@given(_RECORDS)
def test_the_batch_search_misses_nothing(records: list[dict[str, Any]]) -> None:
    """Masking a batch gives what masking each record by itself gives, and counts the same."""
    check(records)


@settings(max_examples=200, deadline=None)
@given(_TEXTS)
def test_masked_text_holds_nothing(text: str) -> None:
    """In a masked text stands no card number and no address any more."""
    once = MASKER.mask_text(text)
    assert "alice@example.com" not in once
    for digits in re.findall(r"(?<![0-9.])[0-9]+", once):
        assert not is_card_number(digits)
    MASKER.mask_text(once)


@pytest.mark.parametrize(
    ("record", "rule", "masked"),
    [
        pytest.param({"message": "4111111111111111 " * 60_000}, "card", 60_000, id="one run of card numbers"),
        pytest.param(
            {"message": "4111111111111111-a " * 20_000 + "123e4567-e89b-12d3-a456-426614174000 " * 20_000},
            "card",
            20_000,
            id="card numbers and identifiers",
        ),
        pytest.param({f"f{n}": "4111111111111111" for n in range(20_000)}, "card", 20_000, id="fields"),
        pytest.param({f"a{n}@b.co": "x" for n in range(20_000)}, "email", 20_000, id="names that become equal"),
    ],
)
def test_a_hostile_record_costs_what_its_length_says(record: dict[str, str], rule: str, masked: int) -> None:
    """Nothing in masking is quadratic: a megabyte of secrets takes a second or so, and not minutes."""
    began = time.process_time()
    assert Masker().mask_records([record]).counts == {rule: masked}
    assert time.process_time() - began < 10
