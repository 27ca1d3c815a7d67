"""What is set aside, and the pages that tell of it."""

from __future__ import annotations

from pathlib import Path

from mcp_ingest.spool import aside
from mcp_ingest.spool.aside import KEPT_LOG, LOG, Notice
from mcp_ingest.spool.files import DATABASE


def test_setting_aside_keeps_every_byte(tmp_path: Path) -> None:
    """Two databases set aside in the same second are both kept."""
    for content in (b"one", b"two"):
        (tmp_path / DATABASE).write_bytes(content)
        (tmp_path / LOG).write_bytes(content)
        aside.set_aside(tmp_path, 5 * 10**9)
    assert (tmp_path / "damaged-5" / DATABASE).read_bytes() == b"one"
    assert (tmp_path / "damaged-5-1" / LOG).read_bytes() == b"two"
    assert not (tmp_path / DATABASE).exists()


def test_the_log_under_its_second_name_is_the_one_that_counts(tmp_path: Path) -> None:
    """A log that SQLite deleted or began anew while the database was opened is set aside as it was before."""
    (tmp_path / DATABASE).write_bytes(b"x")
    (tmp_path / LOG).write_bytes(b"whole")
    aside.keep_log(tmp_path)
    (tmp_path / LOG).unlink()
    (tmp_path / LOG).write_bytes(b"new")
    aside.keep_log(tmp_path)  # another start, before it was dealt with
    folder = aside.set_aside(tmp_path, 5 * 10**9)
    assert (folder / LOG).read_bytes() == b"whole"
    assert (folder / f"{LOG}.1").read_bytes() == b"new"
    assert not (tmp_path / KEPT_LOG).exists()


def test_a_log_that_is_whole_loses_its_second_name(tmp_path: Path) -> None:
    """What was kept is let go of; an empty log is not kept at all."""
    (tmp_path / LOG).write_bytes(b"")
    aside.keep_log(tmp_path)
    assert not (tmp_path / KEPT_LOG).exists()
    (tmp_path / LOG).write_bytes(b"x")
    aside.keep_log(tmp_path)
    aside.release_log(tmp_path)
    aside.release_log(tmp_path)
    assert (tmp_path / LOG).read_bytes() == b"x"
    assert not (tmp_path / KEPT_LOG).exists()


def test_a_folder_is_unfinished_until_it_is_finished(tmp_path: Path) -> None:
    """A start finds a folder whose salvage did not end; the page is there afterwards."""
    (tmp_path / DATABASE).write_bytes(b"x")
    folder = aside.set_aside(tmp_path, 5 * 10**9)
    assert aside.unfinished(tmp_path) == folder
    aside.finish(folder, Notice(5, "database", "why", "what", {"es": 3}, True))
    assert aside.unfinished(tmp_path) is None
    (notice,) = aside.notices(tmp_path)
    assert (notice.why, notice.lost, notice.positions_lost, notice.folder) == ("why", {"es": 3}, True, str(folder))
    assert notice.bytes > 1


def test_folders_without_a_page_are_named(tmp_path: Path) -> None:
    """A folder whose page is missing or no page is told of all the same; one without anything in it goes."""
    (tmp_path / "damaged-1").mkdir()
    (tmp_path / "damaged-2").mkdir()
    (tmp_path / "damaged-2" / "report.json").write_text('{"time": 1')
    assert [notice.why for notice in aside.notices(tmp_path)] == ["damaged files were set aside"] * 2
    aside.finish(tmp_path / "damaged-1", None)
    assert len(aside.notices(tmp_path)) == 1
