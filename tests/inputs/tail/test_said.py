"""What the tail says of files in the log and by `why`: a path may hold a secret, as a line may."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mcp_ingest.engine.why import id_parts
from mcp_ingest.inputs.tail.files import open_file
from tests.inputs.tail.durable import Durable, append, tailing, until

CARD = "4111111111111111"


async def test_a_secret_in_a_path_is_not_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither where the file is followed, cannot be read or was deleted meanwhile, nor of the place of an event."""
    caplog.set_level(logging.DEBUG, logger="mcp_ingest")
    durable = Durable()
    readable, other = tmp_path / f"a-{CARD}.log", tmp_path / f"b-{CARD}.log"
    append(readable, "one")
    append(other, "two")

    def as_a_user(name: str) -> object:
        if name == str(other):
            raise PermissionError(13, "Permission denied")
        return open_file(name)

    monkeypatch.setattr("mcp_ingest.inputs.tail.followed.open_file", as_a_user)
    async with tailing(durable, tmp_path / "*.log") as tail:
        await until(lambda: durable.messages == ["one"])
        parts = id_parts(durable.events[0][0])
        assert parts is not None
        assert tail.place_of(*parts) == f"{tmp_path}/a-[REDACTED:card].log, the line at byte 0"
    readable.unlink()
    async with tailing(durable, tmp_path / "*.log"):
        await until(lambda: "was deleted or moved away" in caplog.text)
    for said in ("following", "cannot read", "was deleted"):
        assert said in caplog.text
    assert CARD not in caplog.text
