"""A disk that refuses to sync: `kill -9` cannot show it, the kernel's cache survives that; strace makes it happen."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_store
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import missing

EVENTS = 25
#: From the 24th sync of a thread on every sixth fails: those before belong to the start.
FAULT = "inject=fdatasync:error=EIO:when=24+6"


def test_a_commit_that_could_not_be_synced_is_not_acknowledged(tmp_path: Path) -> None:
    """No ack leaves behind a sync that failed before another one succeeded; what is sent again is there once."""
    if shutil.which("strace") is None:
        missing("strace is missing: install it (apt-get install strace)")
    trace = tmp_path / "trace"
    calls = ["-e", "trace=fdatasync,write,writev,sendto,sendmsg", "-e", FAULT]
    prefix = ["strace", "-D", "-f", "-yy", "-s", "400", *calls, "-o", str(trace)]
    with Daemon(tmp_path, to_store(tmp_path), prefix) as daemon:
        with ForwardSender("127.0.0.1", daemon.forward_port, attempts=20) as sender:
            for number in range(EVENTS):
                sender.send("mcp", [(0, {"message": f"numbered {number:03}"})])
        daemon.kill()
        acks, failures = _check(trace.read_text().splitlines())
        daemon.prefix = []
        daemon.start()
        wait_until(daemon.drained)
        daemon.assert_closed()
        found = daemon.run("query", "numbered", "--limit", "1000", "--format", "ndjson").stdout
    assert (acks, failures > 1) == (EVENTS, True)
    assert Counter(re.findall(r"numbered (\d+)", found)) == Counter(f"{number:03}" for number in range(EVENTS))


def _check(calls: list[str]) -> tuple[int, int]:
    """How many acks left and syncs of the spool's log failed: no ack between one of these and the next good one."""
    acks, failures, doubtful = 0, 0, False
    for call in calls:
        if "fdatasync(" in call and "spool.db-wal>" in call:
            doubtful = "EIO" in call
            failures += doubtful
        elif "TCP:" in call and re.search(r"ack\\", call):
            acks += 1
            assert not doubtful, f"an ack behind a sync that failed: {call}"
    return acks, failures
