"""The rules: what each finds, what it leaves, and what a user's own rule may be."""

import time

import pytest

from mcp_ingest.errors import ConfigError
from mcp_ingest.masking import Masker
from mcp_ingest.masking_rules import is_card_number

MASKER = Masker()


@pytest.mark.parametrize(
    "digits",
    ["4111111111111111", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117",
     "30569309025904", "3530111333300000", "6200000000000005", "6759649826438453", "4000000000000000006"],
)  # fmt: skip
def test_card_numbers(digits: str) -> None:
    """Every issuer's test number is masked: alone, in a text, with spaces or dashes, next to letters."""
    assert is_card_number(digits)
    groups = [digits[:4], digits[4:8], digits[8:12], digits[12:]]
    for text in (digits, " ".join(groups), "-".join(groups), "\u00a0".join(groups)):
        assert MASKER.mask_text(text) == "[REDACTED:card]"
        assert MASKER.mask_text(f"paid 12 by {text}.") == "paid 12 by [REDACTED:card]."
        assert MASKER.mask_text(f"visa{text}x") == "visa[REDACTED:card]x"
        assert MASKER.mask_text(f"no 12 {text} 12/29") == "no 12 [REDACTED:card] 12/29"


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # Luhn
        "1111111111111117",  # no issuer
        "04111111111111111",  # inside a longer run
        "41111111111111110000",
        "1762345678901234567",  # nanoseconds
        "41111111-1111-1111-1111-111111111111",  # a UUID
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "a4111111111111111fffffffffffffff",  # 32 hexadecimal digits
        "0.4111111111111111",  # a fraction
        "4111 1111 1111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    ],
)
def test_what_is_no_card_number(text: str) -> None:
    """Identifiers, times, fractions and numbers without a check digit stay."""
    assert MASKER.mask_text(text) == text


def test_last_four() -> None:
    """The last four digits may be kept, in numbers as in texts."""
    masker = Masker(keep_last_four=True)
    assert masker.mask_text("4111 1111 1111 1111") == "[REDACTED:card:1111]"
    assert masker.mask_record({"a": 5555555555554444})[0] == {"a": "[REDACTED:card:4444]"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=hunter2 next", "password=[REDACTED:secret] next"),
        ("PASSWORD : hunter2, next", "PASSWORD : [REDACTED:secret], next"),
        ('{"password": "a\\"b c", "x": 1}', '{"password": "[REDACTED:secret]", "x": 1}'),
        (r'{\"password\":\"abc\",\"x\":1}', r'{\"password\":\"[REDACTED:secret]\",\"x\":1}'),
        ("{'db_password': 'abc def'}", "{'db_password': '[REDACTED:secret]'}"),
        ("password => 'x'", "password => '[REDACTED:secret]'"),
        ("secret: {a: 1, b: 2} end", "secret: [REDACTED:secret] end"),
        ('"password": null, "token": true', '"password": null, "token": true'),
        ('password=""', 'password=""'),
        ("?user=me&access_token=abc&x=1", "?user=me&access_token=[REDACTED:secret]&x=1"),
        ("X-Api-Key: abc", "X-Api-Key: [REDACTED:secret]"),
        ("Authorization: Bearer abc.def next", "Authorization: [REDACTED:secret] next"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: [REDACTED:secret]"),
        ('Authorization: Digest username="me", response="x"', "Authorization: [REDACTED:secret]"),
        ("Cookie: a=b; c=d\nnext", "Cookie: [REDACTED:cookie]\nnext"),
        ("sent bearer abc123", "sent bearer [REDACTED:bearer]"),
        ("Bearer abcdefghijklmnopqrst", "Bearer [REDACTED:bearer]"),
        ("bearer authentication failed", "bearer authentication failed"),
        ("Basic dXNlcjpwYXNz", "Basic [REDACTED:bearer]"),
        ("basic information", "basic information"),
        ("postgres://u:p4ss@db:5432/x", "postgres://u:[REDACTED:url_password]@db:5432/x"),
        ("redis://:p4ss@h", "redis://:[REDACTED:url_password]@h"),
        ("amqp://u:p@ss:w@h/v", "amqp://u:[REDACTED:url_password]@h/v"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("id AKIAIOSFODNN7EXAMPLE", "id [REDACTED:api_key]"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[REDACTED:api_key]"),
        ("xoxb-123456789012-abcdefghij", "[REDACTED:api_key]"),
        ("sk_live_abcdefghijklmnop", "[REDACTED:api_key]"),
        ("AIzaSyA1234567890abcdefghijklmnopqrstuv", "[REDACTED:api_key]"),
        ("sk-ant-api03-abcdefghijklmnop", "[REDACTED:api_key]"),
        ("task-force-of-many-many-people", "task-force-of-many-many-people"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_", "jwt [REDACTED:jwt]"),
        ("a -----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY----- b", "a [REDACTED:private_key] b"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nx\n-----END PGP PRIVATE KEY BLOCK-----", "[REDACTED:private_key]"),
        ("-----BEGIN PRIVATE KEY-----\ncut off", "[REDACTED:private_key]"),
        ("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----"),
        ("mail a.b+c@sub.example.co.uk!", "mail [REDACTED:email]!"),
        ("jörg@exämple.de", "[REDACTED:email]"),
        ("user%40example.com", "[REDACTED:email]"),
        ("node@1.2.3 and @mention", "node@1.2.3 and @mention"),
        ("cvv=123", "cvv=[REDACTED:card_code]"),
        ("512 tokens: done", "512 tokens: done"),
    ],
)  # fmt: skip
def test_texts(text: str, expected: str) -> None:
    """Secrets in texts are masked, what stands around them stays, and masking again changes nothing."""
    assert MASKER.mask_text(text) == expected
    assert MASKER.mask_text(expected) == expected
    assert MASKER.mask_record({"a": text})[0] == {"a": expected}
    assert MASKER.mask_records([{"a": [text]}]).records.get(0, {"a": [text]}) == {"a": [expected]}


def test_own_rules() -> None:
    """A rule of the user's replaces by its own text, with groups where it has some, before the packs do."""
    masker = Masker(rules=[("staff", r"(E|F)-\d{6}", r"\1-*"), ("mail", r"@\w+\.com", None)])
    assert masker.mask_text("E-123456 me@example.com") == "E-* me[REDACTED:mail]"


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "problem"),
    [
        ("a", "(", None, "rules: a: the pattern is not RE2: missing ): ("),
        ("a", r"(?=x)", None, "rules: a: the pattern is not RE2"),
        ("a", "x*", None, "rules: a: the pattern matches the empty text"),
        ("a", "x", r"\1", r"rules: a: the replacement has \1, the pattern 0 groups"),
        ("A b", "x", None, "rules: 'A b' is not a name"),
    ],
)
def test_wrong_rules(name: str, pattern: str, replacement: str | None, problem: str) -> None:
    """A rule that cannot work is a mistake of the configuration, all of them at once."""
    with pytest.raises(ConfigError) as caught:
        Masker(rules=[(name, pattern, replacement), ("b", "[", None)])
    assert caught.value.problems[0].startswith(problem)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "piece",
    ["a@", "4111 ", "://a:", "password:", "eyJaaaaaaaa.", "-----BEGIN PRIVATE KEY", "bearer ", "1-", '\\"token\\":\\"'],
)
def test_time_is_linear(piece: str) -> None:
    """A megabyte made to be slow is masked in about the time that its length asks for."""
    start = time.process_time()
    MASKER.mask_text(piece * (1_000_000 // len(piece)))
    assert time.process_time() - start < 10
