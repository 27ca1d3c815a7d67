"""Short runs of the kit; `make chaos` has the long ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.chaos import run as running
from tests.chaos.__main__ import main
from tests.chaos.faults import Fault, answers, faults
from tests.chaos.proxy import Exchange
from tests.chaos.report import Report
from tests.chaos.run import run
from tests.chaos.scene import Options, Scene
from tests.integration.servers import Elasticsearch


def _run(directory: Path, server: Elasticsearch | None, names: str, **more: float) -> Report:
    chosen = tuple(names.split())
    output = "elasticsearch" if server else "store"
    options = Options(seed=11, faults=chosen, rounds=len(chosen), lasting=0.5, output=output, **more)  # type: ignore[arg-type]
    report = asyncio.run(run(options, directory, server))
    print("\n".join(report.lines()))
    return report


def test_faults_before_elasticsearch_cost_nothing(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """Every acknowledged event is in the real Elasticsearch once and every sum closes, whatever struck meanwhile."""
    names = "kill elasticsearch_paused refused_items half"
    report = _run(tmp_path, elasticsearch, names)
    assert report.problems == []
    assert report.injected.keys() | report.skipped.keys() == set(names.split())
    assert report.compared.stored > 1000


def test_faults_of_several_workers_cost_nothing(tmp_path: Path, elasticsearch: Elasticsearch) -> None:
    """Nor do those of single processes, nor more and fewer workers from life to life."""
    names = "worker_killed supervisor_killed kill commits_fail"
    report = _run(tmp_path, elasticsearch, names, workers=2)
    assert report.problems == []
    assert report.injected.keys() == set(names.split())
    assert report.compared.stored > 1000


def test_faults_before_the_store_cost_nothing(tmp_path: Path) -> None:
    """The same in the embedded store."""
    names = "kill reloads disk_full clock network"
    report = _run(tmp_path, None, names)
    assert report.problems == []
    assert report.injected.keys() | report.skipped.keys() == set(names.split())
    assert report.compared.stored > 1000


def test_a_lie_is_found(tmp_path: Path, elasticsearch: Elasticsearch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody says 201 and stores nothing, the kit says so: it can fail."""

    async def strike(scene: Scene, _: object) -> None:
        async def lie(exchange: Exchange) -> None:
            count = len(answers.documents(exchange.head, await exchange.body()))
            items = [{"create": {"_index": "chaos", "status": 201}}] * count
            await exchange.answer(200, json.dumps({"took": 0, "errors": False, "items": items}).encode())

        scene.proxy.make(lie)
        await asyncio.sleep(0.5)
        scene.proxy.heal()

    liar = Fault("liar", "201 for what was never stored", strike, "elasticsearch")
    monkeypatch.setattr(running, "faults", lambda: {**faults(), "liar": liar})
    report = _run(tmp_path, elasticsearch, "liar")
    assert any("acknowledged and not stored" in problem for problem in report.problems)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--faults", "kill,hail"], "there is no fault hail"),
        (["--faults", "clock", "--kills", "3"], "--kills needs"),
        (["--workers", "2", "--output", "store"], "--workers: the store keeps"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown faults, and kills without the fault that kills, are refused before anything is started."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err
