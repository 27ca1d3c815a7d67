"""Lines out of bytes, and where each begins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_ingest.codecs.lines import HEAD_BYTES, Lines, LongLine, is_line_encoding, split_lines


def test_lines_have_the_offsets_of_their_first_bytes() -> None:
    """A line stands at the byte it begins at, counted from `start`."""
    assert split_lines(b"one\ntwo\n", 100) == Lines(["one", "two"], [100, 104])


def test_the_last_line_may_lack_its_end() -> None:
    """What stands behind the last line feed is a line, too."""
    assert split_lines(b"one\ntwo").texts == ["one", "two"]


def test_carriage_returns_belong_to_the_line_end() -> None:
    """CR LF is one line end; a carriage return elsewhere is text."""
    assert split_lines(b"a\r\nb\rc\r\n") == Lines(["a", "b\rc"], [0, 3])


def test_empty_lines_are_no_lines() -> None:
    """Empty lines, with either line end, are left out and the others keep their places."""
    assert split_lines(b"\n\r\na\n\n\nb\n") == Lines(["a", "b"], [3, 7])
    assert split_lines(b"") == Lines([], [])


def test_other_line_ends_of_unicode_are_text() -> None:
    """Only the line feed ends a line."""
    text = "a\u2028b\x85c\x0bd\x0ce"
    assert split_lines(text.encode() + b"\n").texts == [text]


def test_offsets_count_bytes_and_not_letters() -> None:
    """Letters of several bytes move the next line by as many."""
    assert split_lines("üü\n漢\nx\n".encode()) == Lines(["üü", "漢", "x"], [0, 5, 9])


def test_bad_bytes_harm_their_own_line_only() -> None:
    """A line that is not UTF-8 gets U+FFFD and is counted; its neighbours are as they were."""
    lines = split_lines(b"ok \xc3\xbc\nbad \xff\xfe\nlast\n")
    assert lines == Lines(["ok ü", "bad ��", "last"], [0, 6, 13], replaced=1)


def test_a_long_line_is_told_apart() -> None:
    """A line over the limit is in `long` with place, length and head; its neighbours go on."""
    lines = split_lines(b"a\n" + b"x" * 1000 + b"\nb\n", 50, limit=999)
    assert lines == Lines(["a", "b"], [50, 1053], 0, [LongLine(52, 1000, b"x" * HEAD_BYTES)])
    assert split_lines(b"x" * 1000 + b"\n", limit=1000).long == ()


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gbk", "shift_jis", "euc_jp", "iso2022_jp"])
def test_other_encodings_keep_their_offsets(encoding: str) -> None:
    """Offsets are right in every encoding whose line feed is ASCII's."""
    texts = ["ab", "x" if encoding in ("latin-1", "cp1252") else "漢字", "c"]
    raw = [text.encode(encoding) for text in texts]
    lines = split_lines(b"\n".join(raw) + b"\n", 0, encoding=encoding)
    assert lines.texts == texts
    assert lines.positions == [0, 3, 4 + len(raw[1])]


def test_encodings_are_checked() -> None:
    """An encoding without a one-byte line feed, or an unknown one, is none for lines."""
    assert is_line_encoding("utf-8")
    assert is_line_encoding("latin-1")
    assert not is_line_encoding("utf-16")
    assert not is_line_encoding("klingon")
    assert not is_line_encoding("base64")


@given(st.lists(st.binary(max_size=30)), st.integers(0, 2**40), st.integers(1, 20))
def test_every_byte_of_every_line_is_accounted_for(parts: list[bytes], start: int, limit: int) -> None:
    """Whatever the bytes, each line that is not empty is there once, at its place, as text or as too long."""
    data = b"\n".join(parts)
    lines = split_lines(data, start, limit)
    expected, offset = {}, start
    for raw in data.split(b"\n"):
        if raw not in (b"", b"\r") or len(raw) > limit:
            expected[offset] = raw
        offset += len(raw) + 1
    assert sorted([*lines.positions, *(line.position for line in lines.long)]) == sorted(expected)
    for text, position in zip(lines.texts, lines.positions, strict=True):
        assert text == expected[position].decode(errors="replace").removesuffix("\r")
    for line in lines.long:
        assert (line.length, line.head) == (len(expected[line.position]), expected[line.position][:HEAD_BYTES])


@given(st.lists(st.binary(max_size=12), max_size=12), st.data())
def test_blocks_cut_behind_line_ends_give_the_same(parts: list[bytes], data: st.DataObject) -> None:
    """A file gives the same lines in one block and in many."""
    whole = b"".join(part.replace(b"\n", b"") + b"\n" for part in parts)
    ends = [0, *(i + 1 for i, byte in enumerate(whole) if byte == 10)]
    cut = data.draw(st.sampled_from(ends))
    first, second = split_lines(whole[:cut]), split_lines(whole[cut:], cut)
    both = split_lines(whole)
    assert (first.texts + second.texts, first.positions + second.positions) == (both.texts, both.positions)
    assert first.replaced + second.replaced == both.replaced
