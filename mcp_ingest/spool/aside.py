"""Damage and what was set aside for it: a folder for each, with the damaged files and a page that says what happened.

Nothing in these folders is ever deleted by us. `status` reads the pages: when an operator has seen to it and deletes
the folder, it is no longer spoken of.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from mcp_ingest.spool.files import DATABASE, sync_directory

LOG = f"{DATABASE}-wal"
#: Another name of the log while the database is opened: SQLite deletes the log with what it cannot read of it.
KEPT_LOG = f"{LOG}.kept"
_PAGE = "report.json"
_UNFINISHED = "unfinished"  # a file in the folder until what can be read of it is in a new database


@dataclass(slots=True)
class Notice:
    """What happened to the spool: a sentence, what is lost by output, and what else an operator must know.

    `positions_lost`: files are read again whose lines may then be stored twice.
    """

    time: int  # nanoseconds since 1970
    kind: str  # database, commits, counters or replaced
    why: str
    what: str
    lost: dict[str, int] = field(default_factory=dict)
    positions_lost: bool = False
    folder: str = ""
    bytes: int = 0  # of the files that were set aside


def set_aside(directory: Path, time_ns: int) -> Path:
    """Move a damaged database with its write-ahead log to a folder of its own; nothing is deleted.

    The folder is unfinished until `finish`: a start that finds it so goes on with it.
    """
    folder = new_folder(directory, time_ns)
    (folder / _UNFINISHED).touch()
    sync_directory(folder)
    sync_directory(directory)
    move_files(directory, folder)
    return folder


def new_folder(directory: Path, time_ns: int) -> Path:
    """A folder that is not there yet."""
    stem, attempt = f"damaged-{time_ns // 10**9}", 0
    folder = directory / stem
    while folder.exists():
        attempt += 1
        folder = directory / f"{stem}-{attempt}"
    folder.mkdir(mode=0o750)
    return folder


def move_files(directory: Path, folder: Path) -> None:
    """Move what there is: the database first, then the log, under which name soever it is whole."""
    _move(directory / DATABASE, folder / DATABASE)
    kept, log = directory / KEPT_LOG, directory / LOG
    if kept.exists():
        _move(kept, folder / LOG)
        if log.exists():  # the same file, or what SQLite made of it when it was opened
            _move(log, folder / f"{LOG}.1")
    else:
        _move(log, folder / LOG)
    for suffix in ("-shm", "-journal"):
        _move(directory / f"{DATABASE}{suffix}", folder / f"{DATABASE}{suffix}")
    sync_directory(folder)
    sync_directory(directory)


def _move(path: Path, target: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.rename(target)


def unfinished(directory: Path) -> Path | None:
    """A folder that was set aside by a start or a run that did not get to the end of it."""
    return next((path.parent for path in sorted(directory.glob(f"damaged-*/{_UNFINISHED}"))), None)


def finish(folder: Path, notice: Notice | None) -> None:
    """What could be read is in the new database; leave the page that says so."""
    if notice is not None:
        with contextlib.suppress(OSError):
            (folder / _PAGE).write_bytes(orjson.dumps(asdict(notice), option=orjson.OPT_INDENT_2) + b"\n")
    (folder / _UNFINISHED).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()  # nothing was in it


def notices(directory: Path) -> list[Notice]:
    """The pages of all folders, the oldest first; a folder without one is named all the same."""
    return sorted(_notices(directory), key=lambda notice: notice.time)


def _notices(directory: Path) -> Iterator[Notice]:
    for folder in directory.glob("damaged-*"):
        try:
            said = orjson.loads((folder / _PAGE).read_bytes())
            notice = Notice(**said)
        except (OSError, ValueError, TypeError):
            notice = Notice(int(folder.stat().st_mtime * 10**9), "database", "damaged files were set aside", "")
        notice.folder = str(folder)
        notice.bytes = sum(path.stat().st_size for path in folder.iterdir())
        yield notice


# --- the log while the database is opened ------------------------------------------------------------------


def keep_log(directory: Path) -> None:
    """Give the log a second name, which stays when SQLite deletes it; one that is kept already is the older truth."""
    log, kept = directory / LOG, directory / KEPT_LOG
    if not log.exists() or log.stat().st_size == 0:
        return
    if kept.exists() and not os.path.samefile(log, kept):
        return
    with contextlib.suppress(FileExistsError):
        os.link(log, kept)


def release_log(directory: Path) -> None:
    """The log is whole: it needs no second name."""
    (directory / KEPT_LOG).unlink(missing_ok=True)
