"""An acknowledgement means durable: under strace no ack leaves before the fsync of its commit."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

from mcp_ingest.client.forward import ForwardSender
from tests.integration.configurations import to_store
from tests.integration.daemon import Daemon, wait_until
from tests.integration.servers import missing

CALLS = "trace=openat,write,pwrite64,fsync,fdatasync,sendto,sendmsg,writev,recvfrom,read"


def test_no_ack_leaves_before_the_fsync_of_its_commit(tmp_path: Path) -> None:
    """Between the arrival of a chunk and its ack the spool's log is written and then synced."""
    if shutil.which("strace") is None:
        missing("strace is missing: install it (apt-get install strace)")
    trace = tmp_path / "trace"
    prefix = ["strace", "-D", "-f", "-yy", "-s", "400", "-e", CALLS, "-o", str(trace)]
    with Daemon(tmp_path, to_store(tmp_path), prefix) as daemon:
        with ForwardSender("127.0.0.1", daemon.forward_port) as sender:
            for number in range(20):
                sender.send("mcp", [(0, {"message": f"numbered event {number:03}"})])
        wait_until(daemon.drained)
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.wait(timeout=30)
    acks = _check(trace.read_text().splitlines())
    assert acks == 20


def _check(lines: list[str]) -> int:
    """How many acks left; each behind a sync that began after the spool was written, which was after it arrived."""
    acks = 0
    arrived = written = synced = False
    for line in lines:
        if "numbered event" in line and re.search(r"(recvfrom|read)\S*[( ]", line):
            arrived, written, synced = True, False, False
        elif re.search(r"(pwrite64|write)\(\d+<[^>]*spool[^>]*-wal>", line):
            written = arrived
        elif re.search(r"f(data)?sync\(\d+<[^>]*-wal>\)\s*=\s*0", line) or re.search(
            r"<\.\.\. f(data)?sync resumed>.*= 0", line
        ):
            synced = written
        elif re.search(r"(sendto|write|writev|sendmsg)\(.*\\x81?\\?.*ack", line) or re.search(r"TCP.*ack\\", line):
            assert arrived, f"an ack without an event: {line}"
            assert synced, f"an ack before the sync of its commit: {line}"
            arrived = False
            acks += 1
    return acks
