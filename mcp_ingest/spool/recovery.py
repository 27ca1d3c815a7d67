"""How the database is opened whatever state it is in: as it is, with forgotten commits accounted for, or salvaged.

- The small file of sums says how many commits there were. A database that is behind it has forgotten some: what they
  held is `lost`, and the spool takes a new uuid, because their chunks' numbers may be given again.
- A damaged database (also one that is gone, while the sums are there) is set aside, and what can be read of it goes
  into a new one (`salvage.py`), which takes its name when it is whole. A start that finds a salvage cut short begins
  it anew.
- Whatever was done is said in the log, and stays in a page that `status` reads (`aside.py`).
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mcp_ingest.context import Clock
from mcp_ingest.errors import SpoolDamagedError, SpoolDiskError, SpoolError
from mcp_ingest.event import Term
from mcp_ingest.spool import aside, schema
from mcp_ingest.spool.aside import Notice
from mcp_ingest.spool.files import DATABASE, free_bytes, sync_directory
from mcp_ingest.spool.model import Ledger, LetterKey, OutputKey, SpoolSettings
from mcp_ingest.spool.pages import LogFile
from mcp_ingest.spool.reconcile import Found, corrections, owed_by
from mcp_ingest.spool.rows import ADD_TO_LEDGER, commit_row, commits_of, ledger_rows
from mcp_ingest.spool.salvage import AGAIN, Findings, Known, Salvage
from mcp_ingest.spool.sums import SUMS, Marked, Sum, Sums, SumsFile, read_sums, sum_of, summed
from mcp_ingest.spool.truth import Truth, known_outputs, last_number, load, register

FORGOTTEN, DAMAGED = "lost commits", "damaged spool"  # reasons of the ledger
PROGRESS_SECONDS = 5.0
_NEW = "spool.db.new"
_FAULTS = (ValueError, TypeError, KeyError, OverflowError, AttributeError)  # of values that no spool has


@dataclass(slots=True)
class Opened:
    """An open database with what it holds."""

    connection: sqlite3.Connection
    truth: Truth
    uuids: list[bytes]
    sums: SumsFile
    notices: list[Notice] = field(default_factory=list)  # what was found this time


def is_there(directory: Path) -> bool:
    """Whether a spool is in this folder, or what is left of one: opening it then says what is lost."""
    return (directory / DATABASE).exists() or (directory / SUMS).exists() or aside.unfinished(directory) is not None


class Recovery:
    """Opens the database of one folder; `outputs` are the configuration's, name to type."""

    def __init__(
        self,
        directory: Path,
        settings: SpoolSettings,
        outputs: Mapping[str, str],
        clock: Clock,
        logger: logging.Logger,
    ) -> None:
        self._directory = directory
        self._log_bytes = schema.log_bytes(settings.ballast_bytes)
        self._reserve = settings.ballast_bytes
        self._outputs = outputs
        self._clock = clock
        self._logger = logger
        self._said = 0.0
        self._notices: list[Notice] = []
        self._patient = True

    def open(self, *, patient: bool = True) -> Opened:
        """The database, ready to be written. sqlite3.Error when the disk refuses, SpoolError when it is another's.

        Not `patient`: what the disk does not give back is damaged.
        """
        self._patient = patient
        sums = read_sums(self._directory)
        folder = aside.unfinished(self._directory)
        database = self._directory / DATABASE
        if folder is not None:
            if not database.exists():
                aside.move_files(self._directory, folder)
                return self._salvaged(folder, sums, "a salvage was cut short")
            aside.finish(folder, None)
        log = self._directory / aside.LOG
        if not database.exists() and (sums is not None or (log.exists() and log.stat().st_size)):
            return self._set_aside(sums, "its file is gone")
        try:
            return self._as_it_is(sums)
        except SpoolDamagedError as damage:
            return self._set_aside(sums, str(damage))

    def renew(self, why: str, known: Known, sums: Sums) -> Opened:
        """A new database instead of one that turned out to be damaged at run time; its connection is closed."""
        return self._set_aside(sums, why, known)

    def connect(self) -> sqlite3.Connection:
        """A connection to the database that is there."""
        return schema.connect(self._directory, self._log_bytes)

    # --- as it is ---

    def _as_it_is(self, sums: Sums | None) -> Opened:
        """The database if it can be opened and read, its forgotten commits accounted for."""
        log = self._directory / aside.LOG
        if sums is not None:
            aside.keep_log(self._directory)
        elif log.exists() and _goes_on_behind_damage(log):
            raise SpoolDamagedError("its write-ahead log is damaged, and more stands behind that")
        connection = self._connect(sums)
        try:
            self._compare(connection, sums)
            return self._begin(connection)
        except BaseException as error:
            connection.close()
            if self._is_damage(error):
                raise SpoolDamagedError(str(error) or type(error).__name__) from error
            raise

    def _connect(self, sums: Sums | None) -> sqlite3.Connection:
        try:
            return self.connect()
        except sqlite3.NotSupportedError as error:
            if sums is not None and sums.schema == schema.VERSION:
                raise SpoolDamagedError("its first page says that it is no spool") from error
            raise SpoolError(f"the spool in {self._directory} cannot be opened: {error}") from error
        except (sqlite3.Error, *_FAULTS) as error:  # a schema that is no UTF-8 breaks SQLite's own message
            if not self._is_damage(error):
                raise
            raise SpoolDamagedError(str(error)) from error

    def _is_damage(self, error: BaseException) -> bool:
        """Whether the file is at fault: anything but a disk that refuses and another process."""
        if not isinstance(error, sqlite3.Error):
            return isinstance(error, _FAULTS)
        if schema.is_unreadable(error):
            return not self._patient
        return not schema.is_disk(error) and not schema.is_busy(error)

    def _compare(self, connection: sqlite3.Connection, sums: Sums | None) -> None:
        """Hold the database against the sums; nothing was written to it yet."""
        uuids = schema.known_uuids(connection)
        commits = commits_of(connection)
        if sums is not None and not uuids:
            raise SpoolDamagedError("there is nothing in it")
        if sums is None or sums.uuid in uuids[:-1]:
            aside.release_log(self._directory)
        elif sums.first != uuids[0]:
            aside.release_log(self._directory)
            self._replace_uuid(connection)
            self._note(
                "replaced",
                "the database is not the one that stood here before: what that one held is unknown",
            )
        elif commits < sums.commits or sums.uuid != uuids[-1]:
            self._forgotten(connection, sums, sums.commits - commits)
        else:
            aside.release_log(self._directory)
            if commits == sums.commits:
                self._hold_to(connection, sums)
            if sums.inode not in (0, self._inode()):
                self._replace_uuid(connection)  # a copy: the original may have given the next numbers already

    def _forgotten(self, connection: sqlite3.Connection, sums: Sums, commits: int) -> None:
        """Commits are missing at the end: account for them, if nothing of them stands in the log any more."""
        kept = self._directory / aside.KEPT_LOG
        if kept.exists():
            log = LogFile(kept)
            log.close()
            if log.suspects:
                raise SpoolDamagedError(f"its write-ahead log is damaged, {commits:,} commits are behind that")
        aside.release_log(self._directory)
        made = self._correct(connection, sums, FORGOTTEN, intact=True)
        self._note("commits", f"the database has forgotten its last {commits:,} commits", made)

    def _hold_to(self, connection: sqlite3.Connection, sums: Sums) -> None:
        """A counter or mark that differs from its sum was changed on the disk: the sum has a checksum and is right."""
        truth, names = _loaded(connection), known_outputs(connection)
        for number, each in sums.outputs.items():
            state = truth.outputs.get(number)
            if state and ((state.name, state.type), names.get((each.name, each.type))) != (each[:2], number):
                raise SpoolDamagedError(f"the output {each.name} is no longer what it was")
        counted = summed(truth.ledger)
        wrong = [each for each, count in sums.counts.items() if counted[each] > count]
        marks = [
            (each.mark, number)
            for number, each in sums.outputs.items()
            if number in truth.outputs and truth.outputs[number].mark > each.mark
        ]
        if not (wrong or marks) and all(counted[each] == count for each, count in sums.counts.items()):
            return
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("UPDATE outputs SET mark = ? WHERE id = ?", marks)
        for key in [key for key in truth.ledger if sum_of(key) in wrong]:
            ((*place, _),) = ledger_rows(Counter({key: truth.ledger[key] or 1}))
            connection.execute(
                "DELETE FROM ledger WHERE scope = ? AND name = ? AND pipeline = ? AND term = ? AND reason = ?", place
            )
        connection.execute("COMMIT")
        self._note("counters", "counters or marks were damaged", self._correct(connection, sums, DAMAGED))

    def _begin(self, connection: sqlite3.Connection) -> Opened:
        """What is committed, and the file of sums for what comes."""
        uuids = schema.uuids(connection)
        truth = load(connection, register(connection, self._outputs))
        if any(state.mark > truth.last for state in truth.outputs.values()):
            raise ValueError("a mark lies behind the last chunk")
        if connection.execute("SELECT 1 FROM owed WHERE typeof(events) <> 'integer' LIMIT 1").fetchone():
            raise ValueError("what is owed is no number")
        if _misses_rows(connection, truth):
            raise ValueError("rows of what is owed are missing")
        written = Sums(
            uuids[0], uuids[-1], truth.commits, truth.last, self._inode(), summed(truth.ledger), marked(truth)
        )
        notices, self._notices = self._notices, []
        return Opened(connection, truth, uuids, SumsFile(self._directory, written), notices)

    def _inode(self) -> int:
        return os.stat(self._directory / DATABASE).st_ino

    # --- salvaged ---

    def _set_aside(self, sums: Sums | None, why: str, known: Known | None = None) -> Opened:
        folder = aside.set_aside(self._directory, self._clock.time_ns())
        return self._salvaged(folder, sums, why, known)

    def _salvaged(self, folder: Path, sums: Sums | None, why: str, known: Known | None = None) -> Opened:
        """A new database with what can be read of the one in the folder."""
        if free_bytes(self._directory) < self._reserve:
            raise SpoolDiskError(f"the disk of {self._directory} has no room to save what can be read of the spool")
        self._logger.error(
            "the spool's database is damaged (%s): it was moved to %s, what can be read of it is saved", why, folder
        )
        target = self._directory / _NEW
        began, self._said = self._clock.monotonic(), self._clock.monotonic()
        salvage = Salvage(
            folder / DATABASE, folder / aside.LOG, target, self._outputs, self._progress, known, self._reserve
        )
        findings = salvage.run(sums)
        made = self._account(target, sums, findings)
        target.rename(self._directory / DATABASE)
        sync_directory(self._directory)
        notice = self._notice("database", f"the database was damaged: {why}", _found(findings), made)
        notice.positions_lost = "positions" in findings.torn
        notice.bytes = sum(path.stat().st_size for path in folder.iterdir())
        notice.folder = str(folder)
        aside.finish(folder, notice)
        self._tell(notice, self._clock.monotonic() - began)
        self._notices.append(notice)
        return self._begin(self.connect())

    def _account(self, target: Path, sums: Sums | None, findings: Findings) -> Ledger:
        """Make the new database's ledger close, durably."""
        connection = sqlite3.connect(target, isolation_level=None)
        try:
            if sums is not None:
                uuids = [*dict.fromkeys([sums.first, *findings.uuids, sums.uuid])]
                connection.execute("UPDATE meta SET value = ? WHERE key = 'uuids'", (b"".join(uuids),))
            return self._correct(connection, sums, DAMAGED)
        finally:
            connection.close()

    def _correct(
        self, connection: sqlite3.Connection, sums: Sums | None, reason: str, *, intact: bool = False
    ) -> Ledger:
        """In one transaction: the ledger closes, the commits and numbers go on, the uuid is new; what was added."""
        truth = _loaded(connection)
        held = _held(connection, truth, sums.outputs if sums else {})
        known = sums.counts if sums else Counter[Sum]()
        made = corrections(truth.ledger, known, held, truth.letters.count, reason, intact=intact)
        commits = max(truth.commits, sums.commits if sums else 0) + 1 - truth.commits
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(ADD_TO_LEDGER, [*ledger_rows(made), commit_row(commits)])
        last = max(sums.last if sums else 0, last_number(connection))
        connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'chunks' AND seq < ?", (last, last))
        connection.execute(
            "INSERT INTO sqlite_sequence SELECT 'chunks', ? WHERE 'chunks' NOT IN (SELECT name FROM sqlite_sequence)",
            (last,),
        )
        schema.add_uuid(connection)
        connection.execute("COMMIT")
        return made

    def _replace_uuid(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        schema.add_uuid(connection)
        connection.execute("COMMIT")

    # --- saying so ---

    def _note(self, kind: str, why: str, made: Ledger | None = None) -> None:
        notice = self._notice(kind, why, "", made or Counter())
        folder = aside.new_folder(self._directory, self._clock.time_ns())
        notice.folder = str(folder)
        aside.finish(folder, notice)
        self._tell(notice, 0.0)
        self._notices.append(notice)

    def _notice(self, kind: str, why: str, what: str, made: Ledger) -> Notice:
        lost: Counter[str] = Counter()
        for key, count in made.items():
            if isinstance(key, OutputKey) and key.term == Term.LOST:
                lost[key.output] += count
            elif isinstance(key, LetterKey) and key.term == Term.LOST:
                lost["dead letters"] += count
        return Notice(self._clock.time_ns(), kind, why, what, dict(+lost))

    def _tell(self, notice: Notice, seconds: float) -> None:
        lost = ", ".join(f"{name} {count:,}" for name, count in sorted(notice.lost.items())) or "nothing"
        what = f"; {notice.what} in {seconds:.1f} s" if notice.what else ""
        again = "; file positions are lost: what is read again may be stored twice" if notice.positions_lost else ""
        self._logger.error(
            "the spool: %s%s; lost, by output: %s%s; see %s", notice.why, what, lost, again, notice.folder
        )

    def _progress(self, done: int, total: int, chunks: int) -> None:
        now = self._clock.monotonic()
        if now >= self._said + PROGRESS_SECONDS:
            self._said = now
            self._logger.warning(
                "saving what can be read of the damaged spool: %d of %d MiB, %s chunks so far",
                done * schema.PAGE >> 20, total * schema.PAGE >> 20, f"{chunks:,}",
            )  # fmt: skip


def _held(connection: sqlite3.Connection, truth: Truth, outputs: Mapping[int, Marked]) -> dict[str, Found]:
    """What is there for each output, by name: behind the mark that it had last, and pending before that."""
    found: dict[str, Found] = {}
    for state in truth.outputs.values():
        mark = max(state.mark, outputs[state.id].mark if state.id in outputs else 0)
        (fresh,) = connection.execute(
            "SELECT total(events) FROM owed WHERE output = ? AND chunk > ?", (state.id, mark)
        ).fetchone()
        (pending,) = connection.execute(
            "SELECT total(events) FROM pending WHERE output = ? AND chunk <= ? AND why <> ?", (state.id, mark, AGAIN)
        ).fetchone()
        before = found.get(state.name, Found(0, 0, 0))
        found[state.name] = Found(before.held + state.events, before.fresh + int(fresh), before.pending + int(pending))
    return found


def _goes_on_behind_damage(path: Path) -> bool:
    log = LogFile(path)
    log.close()
    return log.beyond


def look(directory: Path) -> sqlite3.Connection:
    """A connection for looking at what a daemon left that is not running; it changes nothing of a damaged log.

    SpoolError when the log is to be salvaged first: SQLite would forget what stands in it.
    """
    aside.keep_log(directory)
    sums = read_sums(directory)
    connection = schema.connect(directory)
    try:
        if sums is not None and sums.uuid in schema.known_uuids(connection) and commits_of(connection) < sums.commits:
            raise SpoolError(f"the spool in {directory} has forgotten commits: start the daemon, which sees to it")
        aside.release_log(directory)
    except BaseException:
        connection.close()
        raise
    return connection


def _misses_rows(connection: sqlite3.Connection, truth: Truth) -> bool:
    """Whether chunks are there that nobody owes: looked for only if an output holds other events than it should."""
    held: Counter[str] = Counter()
    for state in truth.outputs.values():
        held[state.name] += state.events
    if +held == +owed_by(truth.ledger):
        return False
    if connection.execute("PRAGMA integrity_check('owed')").fetchone() != ("ok",):
        return True
    query = "SELECT 1 FROM chunks WHERE number NOT IN (SELECT chunk FROM owed) LIMIT 1"
    return connection.execute(query).fetchone() is not None


def marked(truth: Truth) -> dict[int, Marked]:
    """The outputs with their marks, as the sums have them."""
    return {state.id: Marked(state.name, state.type, state.mark) for state in truth.outputs.values()}


def _loaded(connection: sqlite3.Connection) -> Truth:
    return load(connection, {name: number for (name, _), number in known_outputs(connection).items()})


def _found(findings: Findings) -> str:
    missing = len(findings.damaged | findings.missing)
    parts = [f"{findings.chunks:,} chunks were saved", f"{missing:,} could not be read" if missing else ""]
    if findings.no_room:
        parts.append(f"for {findings.no_room:,} the disk had no room")
    if findings.torn:
        parts.append(f"damaged tables: {', '.join(findings.torn)}")
    return ", ".join(part for part in parts if part)
