"""Nodes as settings, each mistake at its place."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest
from msgspec import Meta

from mcp_ingest.component import ByteSize, Duration, Settings
from mcp_ingest.config.convert import to_settings
from mcp_ingest.config.model import Place
from mcp_ingest.config.nodes import Mapping, parse
from mcp_ingest.config.substitute import Variables


class Tls(Settings):
    certificate: str
    key: str | None = None

    def check(self) -> list[str]:
        return ["key: needs a certificate of its own"] if self.key == "alone" else []


class Example(Settings):
    host: Annotated[str, Meta(min_length=1)] = "localhost"
    port: Annotated[int, Meta(ge=0, le=65535)] = 1
    size: Annotated[ByteSize, Meta(description="x")] = msgspec.field(default_factory=lambda: ByteSize(1))
    wait: Duration | None = None
    mode: Literal["block", "drop"] = "block"
    hosts: str | list[str] = "a"
    tls: Tls | None = None
    several: list[Tls] = msgspec.field(default_factory=list)
    named: dict[str, Tls] = msgspec.field(default_factory=dict)
    password: str | None = None
    on: bool = False

    def check(self) -> list[str]:
        return ["port: must not be the host"] if self.host == str(self.port) else []


def _convert(text: str, **environment: str) -> tuple[Example | None, list[str]]:
    problems: list[str] = []

    def report(place: Place, sentence: str) -> None:
        problems.append(f"{place.line}:{place.column} {sentence}")

    node = parse(text, "f", Variables(environment), report)
    assert isinstance(node, Mapping)
    return to_settings(node, Example, report), problems


def test_all_kinds_of_values_are_taken() -> None:
    """Numbers, sizes, spans, lists, and settings inside of settings."""
    found, problems = _convert(
        "{port: 5, size: 2KiB, wait: 5m, mode: drop, hosts: [a, b], tls: {certificate: c}, "
        "several: [{certificate: d}], named: {x: {certificate: e}}, on: true}"
    )
    assert problems == []
    assert found == Example(
        port=5,
        size=ByteSize(2048),
        wait=Duration(300),
        mode="drop",
        hosts=["a", "b"],
        tls=Tls(certificate="c"),
        several=[Tls(certificate="d")],
        named={"x": Tls(certificate="e")},
        on=True,
    )


def test_variables_become_numbers() -> None:
    """A variable's value is read as what the setting is: number, span, boolean, or nothing."""
    found, problems = _convert('{port: "${P}", wait: "${W}", on: "${O}", password: "${N:-}"}', P="7", W="2s", O="true")
    assert problems == []
    assert found == Example(port=7, wait=Duration(2), on=True, password=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{prot: 5}", ["1:2 `prot` is no setting — did you mean `port`?"]),
        ("{zzzzz: 5}", ["1:2 `zzzzz` is no setting"]),
        ("{port: abc}", ["1:8 port: expected `int`, got `string`"]),
        ("{port: 70000}", ["1:8 port: expected `int` <= 65535"]),
        ("{host: 5}", ["1:8 host: expected `string`, got `int`; put it in quotes"]),
        ("{host: [a]}", ["1:8 host: expected `string`, got `list`"]),
        ("{size: 5 parsecs}", ["1:8 size: '5 parsecs' is not a size: write bytes, or a number with"]),
        ("{mode: blok}", ["1:8 mode: 'blok' is none of block, drop — did you mean `block`?"]),
        ("{hosts: [a, 5]}", ["1:13 hosts[1]: expected `string`, got `int`; put it in quotes"]),
        ("{tls: {}}", ["1:7 `tls.certificate` is missing"]),
        ("{tls: {certificat: a}}", ["1:8 `tls.certificat` is no setting — did you mean `certificate`?", "1:7 `tls"]),
        ("{tls: 5}", ["1:7 tls: expected `mapping | nothing`, got `int`"]),
        ("{several: [{certificate: a}, {certificate: 5}]}", ["1:44 several[1].certificate: expected"]),
        ("{named: {x: {key: a}}}", ["1:13 `named.x.certificate` is missing"]),
        ("{host: '5', port: 5}", ["1:19 port: must not be the host"]),
        ("{tls: {certificate: a, key: alone}}", ["1:29 key: needs"]),
        ("{several: [{certificate: a, key: alone}]}", ["1:34 key: needs"]),
    ],
)
def test_a_mistake_is_reported_at_its_place(text: str, expected: list[str]) -> None:
    """Each mistake is one sentence at the line and column of what is wrong."""
    found, problems = _convert(text)
    assert found is None
    assert len(problems) == len(expected)
    for problem, beginning in zip(problems, expected, strict=True):
        assert problem.startswith(beginning)


def test_all_mistakes_are_found_at_once() -> None:
    """One look at a file gives all that is wrong with it, also beside a variable that is missing."""
    _, problems = _convert("host: 5\nport: ${MISSING}\nmode: x\ntls: {certificate: '${MISSING}', key: 5}\nnope: 1\n")
    assert [problem.split(" ")[0] for problem in problems] == ["2:7", "4:20", "1:7", "3:7", "4:39", "5:1"]


def test_a_secret_is_not_shown() -> None:
    """What a variable holds does not stand in the sentence that refuses it."""
    _, problems = _convert('{mode: "${S}", size: "${S}", wait: "${S}"}', S="hunter2")
    assert len(problems) == 3
    assert not any("hunter2" in problem for problem in problems)
