"""Files that are followed: each line exactly once, whatever becomes of the file and of us."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import threading
import tracemalloc
from pathlib import Path

import pytest

from mcp_ingest.context import Context
from mcp_ingest.engine.why import id_parts
from mcp_ingest.inputs.tail import Tail
from mcp_ingest.inputs.tail.discovery import Found, Globs
from mcp_ingest.inputs.tail.files import open_file
from mcp_ingest.metrics import SANITIZED
from tests.inputs.tail.durable import Durable, append, settings, tailing, until


@pytest.fixture
def durable() -> Durable:
    return Durable()


# --- reading -----------------------------------------------------------------------------------------------


async def test_lines_become_events(durable: Durable, tmp_path: Path) -> None:
    """Each line is a record with a message, under the tag, with the file's path as metadata and its own id."""
    append(tmp_path / "a.log", "one", "two")
    async with tailing(durable, tmp_path / "*.log", tag="app.{name}", path_field="file"):
        await until(lambda: len(durable.events) == 2)
        append(tmp_path / "a.log", "three")
        await until(lambda: len(durable.events) == 3)
    path = str(tmp_path / "a.log")
    assert durable.records == [{"message": m, "file": path} for m in ("one", "two", "three")]
    assert durable.tags == ["app.a.log"] * 3
    assert set(durable.paths) == {path}
    assert len({event_id for event_id, _ in durable.events}) == 3
    assert {len(event_id) for event_id, _ in durable.events} == {28}


async def test_a_line_waits_for_its_end(durable: Durable, tmp_path: Path) -> None:
    """A line that is being written is no event before its line end is there."""
    path = tmp_path / "a.log"
    path.write_text("first\nhal")
    async with tailing(durable, path):
        await until(lambda: durable.messages == ["first"])
        await asyncio.sleep(0.25)
        assert durable.messages == ["first"]
        with path.open("a") as file:
            file.write("f\n")
        await until(lambda: durable.messages == ["first", "half"])


async def test_bad_bytes_are_replaced_and_counted(durable: Durable, tmp_path: Path) -> None:
    """A line that is not in the encoding goes on with U+FFFD, and a metric counts it."""
    (tmp_path / "a.log").write_bytes(b"\xff\xfe\nfine\r\n\n")
    context = Context("app")
    async with tailing(durable, tmp_path / "a.log", context=context):
        await until(lambda: durable.messages == ["\ufffd\ufffd", "fine"])
    assert context.metrics.counter(SANITIZED, input="app")._value.get() == 1


async def test_a_long_line_is_a_dead_letter(durable: Durable, tmp_path: Path) -> None:
    """A line over the limit is one dead letter with its place and length; its neighbours arrive."""
    append(tmp_path / "a.log", "before", "x" * 5000, "after")
    async with tailing(durable, tmp_path / "a.log", max_line_bytes=4000):
        await until(lambda: len(durable.events) == 2)
    (letter,) = durable.letters
    assert (letter.position, letter.record, letter.why) == (7, b"x" * 256, "too_large")
    assert "5000 bytes" in letter.reason
    assert durable.messages == ["before", "after"]


async def test_a_line_of_100_mb_takes_no_memory(durable: Durable, tmp_path: Path) -> None:
    """A line of 100 MB is passed over block by block."""
    path = tmp_path / "a.log"
    with path.open("wb") as file:
        file.write(b"before\n")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b"\nafter\n")
    tracemalloc.start()
    async with tailing(durable, path):
        await until(lambda: len(durable.events) == 2, 30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert durable.messages == ["before", "after"]
    assert "100000000 bytes" in durable.letters[0].reason
    assert peak < 20_000_000


async def test_a_large_file_comes_in_bounded_batches(durable: Durable, tmp_path: Path) -> None:
    """Ten thousands of lines come in order, in several commits."""
    lines = [f"{number:06d} " + "x" * 90 for number in range(30_000)]
    append(tmp_path / "a.log", *lines)
    async with tailing(durable, tmp_path / "a.log"):
        await until(lambda: len(durable.events) == len(lines), 30)
    assert durable.messages == lines
    assert durable.commits > 2


# --- which files, from where -------------------------------------------------------------------------------


async def test_start_at_end_is_for_the_first_start_only(durable: Durable, tmp_path: Path) -> None:
    """With `start_at: end` old lines are left out, those of files that appear later or while we are down are not."""
    append(tmp_path / "old.log", "old")
    async with tailing(durable, tmp_path / "*.log", start_at="end"):
        append(tmp_path / "new.log", "new")
        await until(lambda: durable.messages == ["new"])
        append(tmp_path / "old.log", "more")
        await until(lambda: durable.messages == ["new", "more"])
    append(tmp_path / "old.log", "down")
    append(tmp_path / "other.log", "other")
    async with tailing(durable, tmp_path / "*.log", start_at="end"):
        await until(lambda: len(durable.events) == 4)
    assert sorted(durable.messages) == ["down", "more", "new", "other"]


async def test_start_at_end_keeps_lines_whole(durable: Durable, tmp_path: Path) -> None:
    """A line that is half written at the first start is read whole."""
    path = tmp_path / "a.log"
    path.write_text("old\nhalf ")
    async with tailing(durable, path, start_at="end"):
        append(path, "and half")
        await until(lambda: durable.messages == ["half and half"])


async def test_a_start_at_end_is_remembered(durable: Durable, tmp_path: Path) -> None:
    """What comes while we are down after a first start that read nothing is not lost."""
    append(tmp_path / "a.log", "old")
    async with tailing(durable, tmp_path / "a.log", start_at="end"):
        await until(lambda: len(durable.files) == 1)
    append(tmp_path / "a.log", "new")
    async with tailing(durable, tmp_path / "a.log", start_at="end"):
        await until(lambda: durable.messages == ["new"])


async def test_new_files_and_directories_are_found(durable: Durable, tmp_path: Path) -> None:
    """Files in directories that did not exist are found, excluded ones and directories are not."""
    async with tailing(durable, tmp_path / "**" / "*.log", exclude=["debug*"]):
        (tmp_path / "x" / "y").mkdir(parents=True)
        (tmp_path / "x" / "dir.log").mkdir()
        append(tmp_path / "x" / "y" / "a.log", "deep")
        append(tmp_path / "x" / "debug.log", "not this")
        await until(lambda: durable.messages == ["deep"])
        await asyncio.sleep(0.2)
    assert durable.messages == ["deep"]


@pytest.mark.skipif(not hasattr(os, "inotify_init") and os.uname().sysname != "Linux", reason="inotify is Linux's")
async def test_hints_make_it_quick(durable: Durable, tmp_path: Path) -> None:
    """With a scan once an hour, new lines and new files arrive all the same within a second."""
    append(tmp_path / "a.log", "one")
    async with tailing(durable, tmp_path / "*.log", scan_seconds="1h"):
        await until(lambda: durable.messages == ["one"])
        append(tmp_path / "a.log", "two")
        await until(lambda: durable.messages == ["one", "two"], 1)
        append(tmp_path / "b.log", "three")
        await until(lambda: len(durable.events) == 3, 1)


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="inotify is Linux's")
async def test_a_long_scan_holds_up_no_line(durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written while the globs are looked at, which may take seconds, arrives before that is done."""
    append(tmp_path / "a.log", "one")
    find, scans, over = Globs.find, [], threading.Event()

    def find_slowly(globs: Globs) -> Found:
        scans.append(globs)
        if len(scans) > 2:
            over.wait(30)
        return find(globs)

    monkeypatch.setattr(Globs, "find", find_slowly)
    async with tailing(durable, tmp_path / "*.log"):
        await until(lambda: len(scans) == 3)
        append(tmp_path / "a.log", "two")
        await until(lambda: durable.messages == ["one", "two"], 5)
        append(tmp_path / "b.log", "three")
        over.set()
        await until(lambda: len(durable.events) == 3, 5)


async def test_without_inotify_the_scan_finds_everything(
    durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where directories cannot be watched, the scan alone finds lines and files."""
    monkeypatch.setattr("mcp_ingest.inputs.tail.discovery.sys.platform", "darwin")
    async with tailing(durable, tmp_path / "*.log"):
        append(tmp_path / "a.log", "one")
        await until(lambda: durable.messages == ["one"])
        append(tmp_path / "a.log", "two")
        await until(lambda: durable.messages == ["one", "two"])


async def test_two_names_of_one_file_are_one(durable: Durable, tmp_path: Path) -> None:
    """A symbolic or hard link to a followed file is not read a second time."""
    append(tmp_path / "a.log", "one")
    (tmp_path / "b.log").symlink_to(tmp_path / "a.log")
    os.link(tmp_path / "a.log", tmp_path / "c.log")
    async with tailing(durable, tmp_path / "*.log"):
        await until(lambda: durable.messages == ["one"])
        await asyncio.sleep(0.3)
    assert durable.messages == ["one"]
    assert len(durable.files) == 1


async def test_an_unreadable_file_is_said_once(
    durable: Durable, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without permission is one warning, and is read from its head when it gets it."""
    path = tmp_path / "a.log"
    append(path, "one")
    path.chmod(0)

    def as_a_user(name: str) -> tuple[int, os.stat_result]:
        if not os.stat(name).st_mode & 0o400:  # root, whom the tests may run as, could read it
            raise PermissionError(13, "Permission denied")
        return open_file(name)

    monkeypatch.setattr("mcp_ingest.inputs.tail.followed.open_file", as_a_user)
    async with tailing(durable, tmp_path / "*.log"):
        await asyncio.sleep(0.5)
        path.chmod(0o600)
        await until(lambda: durable.messages == ["one"])
    assert sum("cannot read" in record.message for record in caplog.records) == 1


async def test_healthy_following_is_silent(durable: Durable, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Reading and rotating write no line above debug."""
    path = tmp_path / "a.log"
    append(path, "one")
    async with tailing(durable, path):
        await until(lambda: durable.messages == ["one"])
        path.rename(tmp_path / "a.log.1")
        append(path, "two")
        await until(lambda: len(durable.events) == 2)
    assert [r.message for r in caplog.records if r.levelno > logging.DEBUG and r.name == "mcp_ingest"] == []


# --- rotation ----------------------------------------------------------------------------------------------


async def test_a_renamed_file_is_read_to_its_end(durable: Durable, tmp_path: Path) -> None:
    """After a rename out of the glob the old file is read on, and the new one from its head."""
    path = tmp_path / "a.log"
    append(path, "one")
    async with tailing(durable, path):
        await until(lambda: durable.messages == ["one"])
        with path.open("a") as writer:
            path.rename(tmp_path / "a.log.1")
            append(path, "new")
            writer.write("late\nwithout an end")
            writer.flush()
            await until(lambda: len(durable.events) == 4)
    assert sorted(durable.messages) == ["late", "new", "one", "without an end"]


async def test_a_file_let_go_is_never_read_again(
    durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its position is kept while it stands there, so that what is added later is read on after a restart."""
    path = tmp_path / "a.log"
    append(path, "one")
    async with tailing(durable, path):
        await until(lambda: durable.messages == ["one"])
        path.rename(tmp_path / "a.log.1")
        append(path, "new")
        await until(lambda: len(durable.events) == 2)
        await asyncio.sleep(1.0)  # longer than rotate_wait_seconds of these tests
    append(tmp_path / "a.log.1", "much later")
    async with tailing(durable, path):
        await until(lambda: len(durable.events) == 3)
        await asyncio.sleep(0.3)
    assert durable.messages == ["one", "new", "much later"]
    (tmp_path / "a.log.1").unlink()
    monkeypatch.setattr("mcp_ingest.inputs.tail.followed._FORGET_SECONDS", 0.2)
    async with tailing(durable, path):
        await until(lambda: len(durable.files) == 1)


async def test_a_rename_within_the_glob_changes_nothing(durable: Durable, tmp_path: Path) -> None:
    """`app.log` to `app.log.1`, both followed: nothing twice, also after a restart."""
    path = tmp_path / "a.log"
    append(path, "one")
    async with tailing(durable, tmp_path / "a.log*"):
        await until(lambda: durable.messages == ["one"])
        path.rename(tmp_path / "a.log.1")
        append(path, "two")
        await until(lambda: durable.messages == ["one", "two"])
        await until(lambda: len(durable.files) == 2)
    (tmp_path / "a.log.1").rename(tmp_path / "a.log.2")
    path.rename(tmp_path / "a.log.1")
    append(tmp_path / "a.log.1", "two and a half")
    append(path, "three")
    async with tailing(durable, tmp_path / "a.log*"):
        await until(lambda: len(durable.events) >= 4)
        await asyncio.sleep(0.3)
    assert sorted(durable.messages) == ["one", "three", "two", "two and a half"]


async def test_a_rotation_while_down_loses_nothing(durable: Durable, tmp_path: Path) -> None:
    """What was rotated out of the glob while we were down is finished under its old uid."""
    path = tmp_path / "a.log"
    append(path, "one")
    async with tailing(durable, path):
        await until(lambda: durable.messages == ["one"])
    append(path, "two")
    path.rename(tmp_path / "a.log.1")
    append(path, "three")
    async with tailing(durable, path):
        await until(lambda: len(durable.events) == 3)
    by_message = {message: event_id[:20] for event_id, message in durable.events}
    assert by_message["one"] == by_message["two"] != by_message["three"]
    assert durable.paths == [str(path)] * 3


async def test_what_came_and_was_rotated_away_while_down(durable: Durable, tmp_path: Path) -> None:
    """Files that nobody ever saw in the glob are found beside it by their name; older and foreign ones are left."""
    path = tmp_path / "a.log"
    append(tmp_path / "a.log.9", "older than anything we followed")
    os.utime(tmp_path / "a.log.9", ns=(10**18, 10**18))
    append(path, "one")
    async with tailing(durable, path):
        await until(lambda: durable.messages == ["one"])
    await asyncio.sleep(0.02)  # file systems tell times of change apart by some milliseconds
    append(path, "two")
    for number, line in enumerate(("three", "four"), 1):
        path.rename(tmp_path / f"a.log.{number}")
        append(path, line)
        await asyncio.sleep(0.02)
    path.rename(tmp_path / "a.log.3")
    append(path, "five")
    append(tmp_path / "a.log.bak", "no rotation's name")
    append(tmp_path / "a.log.2.gz", "compressed")
    for _ in range(2):
        async with tailing(durable, path):
            await until(lambda: len(durable.events) >= 5)
            await asyncio.sleep(0.3)
    assert sorted(durable.messages) == ["five", "four", "one", "three", "two"]
    assert set(durable.paths) == {str(path)}


async def test_a_deleted_file_is_read_to_its_end(durable: Durable, tmp_path: Path) -> None:
    """What a writer adds to a deleted file still arrives; then its position is forgotten."""
    path = tmp_path / "a.log"
    append(path, "one")
    with path.open("a") as writer:
        async with tailing(durable, path):
            await until(lambda: durable.messages == ["one"])
            path.unlink()
            writer.write("two\n")
            writer.flush()
            await until(lambda: durable.messages == ["one", "two"])
            await until(lambda: durable.files == [])


async def test_what_is_gone_after_a_restart_is_forgotten_in_time(
    durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position of a file that was deleted while we were down is dropped, not at once but some time later."""
    monkeypatch.setattr("mcp_ingest.inputs.tail.followed._FORGET_SECONDS", 0.5)
    append(tmp_path / "a.log", "one")
    async with tailing(durable, tmp_path / "*.log"):
        await until(lambda: durable.messages == ["one"])
    (tmp_path / "a.log").unlink()
    async with tailing(durable, tmp_path / "*.log"):
        await asyncio.sleep(0.1)
        assert len(durable.files) == 1
        await until(lambda: durable.files == [])


# --- truncation and identity -------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["x\n", "a new line that is longer than the old ones\n", "one\nzwei\n"])
@pytest.mark.parametrize("down", [False, True])
async def test_a_truncated_file_begins_anew(durable: Durable, tmp_path: Path, content: str, down: bool) -> None:
    """copytruncate, noticed whether the file is shorter, longer or just as long: same uid, next generation."""
    path = tmp_path / "a.log"
    append(path, "one", "two!")
    async with tailing(durable, path):
        await until(lambda: durable.messages == ["one", "two!"])
        if not down:
            path.write_text(content)
            await until(lambda: len(durable.events) > 2)
    if down:
        path.write_text(content)
        async with tailing(durable, path):
            await until(lambda: len(durable.events) > 2)
    assert durable.messages == ["one", "two!", *content.splitlines()]
    assert len({event_id for event_id, _ in durable.events}) == len(durable.events)
    assert len({event_id[:16] for event_id, _ in durable.events}) == 1
    assert len({event_id[:20] for event_id, _ in durable.events}) == 2


async def test_after_lost_positions_nothing_is_skipped(durable: Durable, tmp_path: Path) -> None:
    """Where damage took the positions, a first start is none: what was written meanwhile is read."""
    path = tmp_path / "a.log"
    append(path, "read before", "written meanwhile")
    context = Context("app", lost_positions=lambda: True)
    async with tailing(durable, path, context=context, start_at="end"):
        await until(lambda: durable.messages == ["read before", "written meanwhile"])


async def test_an_id_leads_back_to_its_line(durable: Durable, tmp_path: Path) -> None:
    """File and byte of a line are told by its id, of one that a truncation took away, too; others are not ours."""
    path = tmp_path / "a.log"
    append(path, "one", "two")
    async with tailing(durable, path) as tail:
        await until(lambda: len(durable.events) == 2)
        path.write_text("three\n")
        await until(lambda: len(durable.events) == 3)
    parts = [id_parts(event_id) for event_id, _ in durable.events]
    places = [tail.place_of(*part) for part in parts if part]
    gone = ", before it was truncated or replaced"
    assert places == [
        f"{path}, the line at byte 0{gone}",
        f"{path}, the line at byte 4{gone}",
        f"{path}, the line at byte 0",
    ]
    assert tail.place_of(bytes(15), 0) is None


async def test_a_reused_inode_is_another_file(durable: Durable, tmp_path: Path) -> None:
    """A new file that got the inode of a deleted one is read from its head, under other ids."""
    path = tmp_path / "a.log"
    append(path, "one")
    async with tailing(durable, path):
        await until(lambda: durable.messages == ["one"])
    key = durable.files[0]
    append(path, "more than there was")  # the same inode for certain: written over in place
    with path.open("r+") as file:
        file.write("two\n")
    async with tailing(durable, path):
        await until(lambda: len(durable.events) == 3)
    assert durable.messages == ["one", "two", "more than there was"]
    assert durable.files == [key]
    assert len({event_id for event_id, _ in durable.events}) == 3


async def test_another_device_number_is_no_other_file(durable: Durable, tmp_path: Path) -> None:
    """After a reboot that numbers devices anew, files are known by inode and content."""
    append(tmp_path / "a.log", "one")
    async with tailing(durable, tmp_path / "*.log"):
        await until(lambda: durable.messages == ["one"])
    key = durable.files[0]
    device = b'"dev":%d' % (tmp_path / "a.log").stat().st_dev
    assert device in durable.positions[key]
    durable.positions[key] = durable.positions[key].replace(device, b'"dev":99')
    append(tmp_path / "a.log", "two")
    async with tailing(durable, tmp_path / "*.log"):
        await until(lambda: durable.messages == ["one", "two"])
    assert durable.files == [key]


async def test_equal_small_files_are_two(durable: Durable, tmp_path: Path) -> None:
    """Empty files and files with equal content are told apart."""
    for name in ("a.log", "b.log"):
        (tmp_path / name).touch()
    async with tailing(durable, tmp_path / "*.log"):
        await until(lambda: len(durable.files) == 2)
        append(tmp_path / "a.log", "same")
        append(tmp_path / "b.log", "same")
        await until(lambda: durable.messages == ["same", "same"])
    assert len({event_id for event_id, _ in durable.events}) == 2


# --- failing, waiting, stopping ----------------------------------------------------------------------------


async def test_a_failed_commit_goes_back(durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While commits fail nothing is lost or taken twice, and it heals by itself."""
    monkeypatch.setattr("mcp_ingest.inputs.tail.reader._PAUSE_SECONDS", (0.02, 0.05))
    append(tmp_path / "a.log", "one")
    async with tailing(durable, tmp_path / "*.log"):
        await until(lambda: durable.messages == ["one"])
        durable.failing = True
        append(tmp_path / "a.log", "two")
        append(tmp_path / "b.log", "three")
        await asyncio.sleep(0.3)
        durable.failing = False
        await until(lambda: len(durable.events) == 3)
        await asyncio.sleep(0.2)
    assert sorted(durable.messages) == ["one", "three", "two"]


async def test_waiting_is_backpressure(durable: Durable, tmp_path: Path) -> None:
    """While an emit waits, no further one is sent and no more than one batch is read ahead."""
    durable.gate = asyncio.Event()
    context = Context("app")
    append(tmp_path / "a.log", *("x" * 99 for _ in range(50_000)))
    async with tailing(durable, tmp_path / "a.log", context=context):
        await until(lambda: durable.under_way == 1)
        await asyncio.sleep(0.3)
        assert durable.under_way == 1
        assert context.budget.used < 3_000_000
        durable.gate.set()
        await until(lambda: len(durable.events) == 50_000, 30)
    assert context.budget.used == 0


async def test_stopping_waits_for_the_emit_under_way(durable: Durable, tmp_path: Path) -> None:
    """A cancelled input leaves when its emit is done, and closes its files."""
    durable.gate = asyncio.Event()
    append(tmp_path / "a.log", "one")
    before = len(os.listdir("/dev/fd"))
    tail = Tail(settings([tmp_path / "a.log"]), Context("app"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(tail.run(durable.emit))
        await until(lambda: durable.under_way == 1)
        task.cancel()
        await asyncio.sleep(0.05)
        assert not task.done()
        durable.gate.set()
        await asyncio.wait({task})
    assert durable.messages == ["one"]
    assert len(os.listdir("/dev/fd")) <= before + 1


async def test_more_files_than_may_be_open(durable: Durable, tmp_path: Path) -> None:
    """Above `max_open_files` everything is read all the same, also what was renamed while closed."""
    paths = [tmp_path / f"{number}.log" for number in range(20)]
    for path in paths:
        append(path, "one")
    async with tailing(durable, tmp_path / "*.log", max_open_files=3) as tail:
        await until(lambda: len(durable.events) == 20)
        assert len([f for f in tail._followed.files.values() if f.fd is not None]) == 3
        for path in paths:
            append(path, "two")
            path.rename(path.with_suffix(".old"))
        await until(lambda: len(durable.events) == 40)
    assert sorted(durable.messages) == ["one"] * 20 + ["two"] * 20


async def test_the_limit_of_descriptors_is_raised(durable: Durable, tmp_path: Path) -> None:
    """The process's soft limit is raised for `max_open_files` as far as the hard one lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        assert Tail(settings([tmp_path], max_open_files=700), Context())._open_limit() == 700
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 956
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_thousands_of_quiet_files_are_cheap(durable: Durable, tmp_path: Path) -> None:
    """Thousands of files are read, then cost next to nothing while they are quiet."""
    for number in range(2_000):
        append(tmp_path / f"{number}.log", "one")
    async with tailing(durable, tmp_path / "*.log", scan_seconds="5s"):
        await until(lambda: len(durable.events) == 2_000, 30)
        await asyncio.sleep(0.5)
        used = sum(os.times()[:2])
        await asyncio.sleep(1)
        assert sum(os.times()[:2]) - used < 0.3


def test_mistakes_in_the_settings_are_named(tmp_path: Path) -> None:
    """Each setting that cannot work is a sentence."""
    wrong = settings([tmp_path], encoding="utf-16", tag="{host}", scan_seconds=0, max_line_bytes=0)
    assert [problem.split(":")[0] for problem in wrong.check()] == [
        "encoding", "tag", "scan_seconds", "max_line_bytes",
    ]  # fmt: skip
    assert settings([tmp_path]).check() == []


async def test_what_was_read_ahead_of_a_failed_commit_gives_its_memory_back(
    durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often commits fail, nothing of the budget stays taken: other inputs live on it, too."""
    monkeypatch.setattr("mcp_ingest.inputs.tail.reader._PAUSE_SECONDS", (0.01, 0.01))
    context = Context("app")
    durable.failing = True
    append(tmp_path / "a.log", *("x" * 99 for _ in range(30_000)))
    async with tailing(durable, tmp_path / "a.log", context=context):
        await asyncio.sleep(0.5)
        durable.failing = False
        await until(lambda: len(durable.events) == 30_000, 30)
        await until(lambda: context.budget.used == 0, 2)


async def test_a_name_that_is_no_utf8(durable: Durable, tmp_path: Path) -> None:
    """A file whose name is not UTF-8 is followed like any other, under a tag and a field that are texts."""
    append(tmp_path / os.fsdecode(b"bad\xff.log"), "one")
    append(tmp_path / "good.log", "two")
    for _ in range(2):
        async with tailing(durable, tmp_path / "*.log", tag="app.{name}", path_field="file"):
            await until(lambda: sorted(durable.messages) == ["one", "two"])
    assert sorted(durable.tags) == ["app.bad\ufffd.log", "app.good.log"]
    assert len(durable.files) == 2


# --- other settings ----------------------------------------------------------------------------------------


def _change(tail: Tail, *paths: Path, **others: object) -> None:
    apply = tail.change_to(settings(list(paths), **others))
    assert apply is not None
    apply()


async def test_other_settings_keep_files_and_positions(durable: Durable, tmp_path: Path) -> None:
    """Files that are still matched are read on, under the new tag; new ones from their head; each line once."""
    append(tmp_path / "a.log", "a1")
    append(tmp_path / "b.txt", "b1")
    async with tailing(durable, tmp_path / "*.log", tag="old") as tail:
        await until(lambda: durable.messages == ["a1"])
        _change(tail, tmp_path / "*.log", tmp_path / "*.txt", tag="new")
        await until(lambda: len(durable.events) == 2)
        append(tmp_path / "a.log", "a2")
        await until(lambda: len(durable.events) == 3)
    assert durable.messages == ["a1", "b1", "a2"]
    assert durable.tags == ["old", "new", "new"]


async def test_what_is_matched_no_more_is_left_and_taken_up_again(durable: Durable, tmp_path: Path) -> None:
    """Nothing is read of a file meanwhile; when it is matched again it goes on where it was."""
    paths = [tmp_path / "a.log", tmp_path / "b.log"]
    for path in paths:
        append(path, f"{path.stem}1")
    async with tailing(durable, *paths) as tail:
        await until(lambda: len(durable.events) == 2)
        _change(tail, paths[0])
        await until(lambda: len(tail._followed.files) == 1)
        append(paths[1], "b2")
        append(paths[0], "a2")
        await until(lambda: len(durable.events) == 3)
        await asyncio.sleep(0.15)
        assert sorted(durable.messages) == ["a1", "a2", "b1"]
        _change(tail, *paths)
        await until(lambda: len(durable.events) == 4)
    assert durable.messages[3] == "b2"
    async with tailing(durable, *paths):
        await asyncio.sleep(0.15)
    assert len(durable.events) == 4


async def test_a_rotated_file_is_read_to_its_end_over_a_change(durable: Durable, tmp_path: Path) -> None:
    """One that was deleted while it was open is not lost by other settings."""
    path = tmp_path / "a.log"
    append(path, "one")
    async with tailing(durable, path, rotate_wait_seconds="10s") as tail:
        await until(lambda: durable.messages == ["one"])
        with path.open("a") as writer:
            path.unlink()
            await until(lambda: any(file.gone is not None for file in tail._followed.files.values()))
            _change(tail, path, tag="new", rotate_wait_seconds="10s")
            await asyncio.sleep(0.1)
            writer.write("two\n")
            writer.flush()
            await until(lambda: durable.messages == ["one", "two"])


async def test_changes_while_it_reads_lose_and_double_nothing(durable: Durable, tmp_path: Path) -> None:
    """Whatever is read ahead or being committed: each line is there once, and no memory stays reserved."""
    context = Context("app")
    lines = [f"{number:05d} " + "x" * 60 for number in range(20_000)]
    path = tmp_path / "a.log"
    async with tailing(durable, path, context=context) as tail:
        for start in range(0, len(lines), 500):
            append(path, *lines[start : start + 500])
            _change(tail, path, tag=f"tag{start}")
            await asyncio.sleep(0.01)
        await until(lambda: len(durable.events) == len(lines), 30)
        assert durable.messages == lines
        await until(lambda: context.budget.used == 0)
