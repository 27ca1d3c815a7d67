"""The spool's database: its tables, the settings of its one connection, and how to open it.

Decided by measuring (`python perf/spool.py` does it again; one shared core, a disk that syncs in 0.2 ms):

- Pages of 4 KiB. A commit of one small chunk costs 94 microseconds of CPU, with 8 KiB 117, 16 KiB 150, 32 KiB
  201; a chunk of 150 KB in and out costs the same 0.42 ms with all of them.
- `owed`, a row for each output of a chunk: 3 microseconds a chunk in and out. It answers "what does this output
  owe", "since when" and "may this chunk go" without touching the chunks, whose leaves are spread over the whole
  file (8 GiB of backlog: 100 MB of leaves to count at start, against 2 MB of `owed`).
- `locking_mode=EXCLUSIVE`: no shared memory file, 10 % less CPU, and nobody else can write or checkpoint, which
  SQLite up to 3.51.2 does not always survive. `AUTOINCREMENT`: one page more in the log, no time to measure.
- `secure_delete=OFF`: Debian's build has it on, and a delete then writes what it deletes.
- A checkpoint when half the ballast is written, or a quarter when it is quiet. A chunk that was delivered before
  never gets from the log into the file; but when the disk is full, the file must be able to grow by all that is
  in the log: only then the log begins anew in its own blocks, and a settlement needs no room at all. (Tried
  on a disk of 8 MiB with a ballast smaller than the log: the checkpoint ate the ballast, and nothing could be
  deleted any more.) A log of 64 MiB saves nothing either: 0.5 ms for a chunk of 1,000 in and out with 8 MiB,
  0.7 with 64.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from mcp_ingest.spool.files import DATABASE

APPLICATION = 0x4D435069  # "MCPi"
VERSION = 1
PAGE = 4096
LEAST_LOG_BYTES = 2**18

_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE outputs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    type TEXT NOT NULL,
    mark INTEGER NOT NULL,          -- every chunk up to this number is settled, but for its pending rows
    UNIQUE (name, type)
);
CREATE TABLE chunks (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    created INTEGER NOT NULL,       -- nanoseconds since 1970
    priority INTEGER NOT NULL,
    events INTEGER NOT NULL,
    body BLOB NOT NULL              -- mcp_ingest/spool/chunk.py
);
CREATE TABLE owed (                 -- goes when the output's mark has passed and nothing of the chunk is pending
    chunk INTEGER NOT NULL,
    output INTEGER NOT NULL,
    events INTEGER NOT NULL,
    bytes INTEGER NOT NULL,         -- of the chunk's body: what it takes while somebody owes it
    priority INTEGER NOT NULL,      -- the chunk's: which of them go first is looked up without touching the chunks
    PRIMARY KEY (chunk, output)
) WITHOUT ROWID;
CREATE TABLE pending (
    output INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    destination TEXT NOT NULL,
    events INTEGER NOT NULL,
    bitmap BLOB NOT NULL,           -- bit i of byte i // 8, lowest first: event i of the chunk
    attempt INTEGER NOT NULL,
    why TEXT NOT NULL,
    PRIMARY KEY (output, chunk, destination)
) WITHOUT ROWID;
CREATE TABLE positions (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE seen (
    id INTEGER PRIMARY KEY,
    created INTEGER NOT NULL,
    digests BLOB NOT NULL           -- 16 bytes each, of one commit or of a whole block
);
CREATE TABLE dead_letters (         -- mcp_ingest/spool/letters.py
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    signature TEXT NOT NULL,
    size INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    input TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    stage TEXT NOT NULL,
    output TEXT NOT NULL,
    output_type TEXT NOT NULL,
    reason TEXT NOT NULL,
    tag TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_time INTEGER NOT NULL,
    received INTEGER NOT NULL,
    destination TEXT NOT NULL,
    form TEXT NOT NULL,
    record BLOB NOT NULL            -- last: who looks for letters need not read it
);
CREATE INDEX dead_letters_by_time ON dead_letters (time);
CREATE INDEX dead_letters_by_signature ON dead_letters (signature);
CREATE TABLE dead_letter_groups (   -- so that a list of groups need not read all letters
    signature TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    output TEXT NOT NULL,
    input TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    stage TEXT NOT NULL,
    letters INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE damaged_letters (      -- what could be read of those that are lost
    number INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    why TEXT NOT NULL,
    record BLOB
);
CREATE TABLE ledger (               -- scope: input, output or letters; one row counts the commits
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    term TEXT NOT NULL,
    reason TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (scope, name, pipeline, term, reason)
) WITHOUT ROWID;
CREATE TABLE quarantine (           -- chunks that could not be read
    number INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    why TEXT NOT NULL,
    body BLOB
);
"""


def log_bytes(ballast: int) -> int:
    """The size of the write-ahead log at which a busy spool makes a checkpoint: see the module's docstring."""
    return max(ballast // 2, LEAST_LOG_BYTES)


def connect(directory: Path, log_bytes: int = LEAST_LOG_BYTES) -> sqlite3.Connection:
    """The one connection to the spool's database, made if it is not there; sqlite3.Error as SQLite says it."""
    path = directory / DATABASE
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
    try:
        _settings(connection, log_bytes)
        _tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _settings(connection: sqlite3.Connection, log_bytes: int) -> None:
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # before anything reads, or a shared memory file is made
    if connection.execute("PRAGMA page_count").fetchone() == (0,):
        connection.execute(f"PRAGMA page_size={PAGE}")
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # writes a page whenever it is said: not on a full disk
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "fullfsync=ON",  # macOS: fsync alone leaves the bytes in the drive
        "secure_delete=OFF",
        "cache_size=-16384",
        f"wal_autocheckpoint={log_bytes // PAGE}",
        f"journal_size_limit={2 * log_bytes}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _tables(connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) == (APPLICATION, VERSION):
        return
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables:
        raise sqlite3.NotSupportedError(
            f"version {version} of the spool, this program knows version {VERSION}"
            if application == APPLICATION
            else "a database, but not a spool"
        )
    make_tables(connection)


def make_tables(connection: sqlite3.Connection) -> None:
    """The tables of a spool in an empty database, in one transaction."""
    connection.executescript(
        f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id={APPLICATION}; PRAGMA user_version={VERSION}; COMMIT;"
    )


def known_uuids(connection: sqlite3.Connection) -> list[bytes]:
    """The uuids that this database has had, the newest last; none when it is new."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'uuids'").fetchone()
    joined: bytes = row[0] if row else b""
    if len(joined) % 16:
        raise ValueError(f"the spool's uuids have {len(joined)} bytes")
    return [joined[start : start + 16] for start in range(0, len(joined), 16)]


def uuids(connection: sqlite3.Connection) -> list[bytes]:
    """The same; a new database gets its first."""
    return known_uuids(connection) or add_uuid(connection)


def add_uuid(connection: sqlite3.Connection) -> list[bytes]:
    """A new uuid for what comes; all of them."""
    made = [*known_uuids(connection), os.urandom(16)]
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('uuids', ?)", (b"".join(made),))
    return made


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file itself is at fault: not a database, malformed, or with texts that are none."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # of the module itself
        return str(error).startswith("Could not decode")
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process is at the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_unreadable(error: sqlite3.Error) -> bool:
    """Whether the disk does not give back what is on it."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code in (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)


def is_full(error: BaseException) -> bool:
    """Whether the disk has no room left."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def is_disk(error: BaseException) -> bool:
    """Whether the disk refused, so that trying parts of a transaction alone makes no sense."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
