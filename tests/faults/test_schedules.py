"""Random schedules of faults over many streams, with an auditor: no answer is lost, ended twice or cut in silence.

The ledger is compared with the replicas' own meter, token by token. Where the seed is odd, commonplace events pass
through the pump, if it was compiled. `--seed N` runs one schedule, `--streams N` sets
its size, and SECONDSOURCE_SOAK=N runs N schedules; `make soak` runs a million streams.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults import language_model as lm
from tests.faults import meter
from tests.faults.conftest import MakeGateway, MakeWall
from tests.faults.harness import Gateway, Pool
from tests.faults.schedule import TIMEOUTS, Auditor, Schedule

SUITE_SEEDS = (1, 2, 3)
SUITE_STREAMS = 120
AT_ONCE = 12


def seeds(config: pytest.Config) -> tuple[int, ...]:
    """Return the seeds to run, as options and environment say."""
    seed: int | None = config.getoption("--seed")
    if seed is not None:
        return (seed,)
    return tuple(range(1, 1 + int(os.environ.get("SECONDSOURCE_SOAK", "0")))) or SUITE_SEEDS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each seed."""
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds(metafunc.config))


async def run(schedule: Schedule, gateway: Gateway, auditor: Auditor) -> None:
    """Send every request of a schedule, some at once, and judge each answer."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, body: dict[str, Any]) -> None:
        async with gate:
            auditor.judge(body, await gateway.ask(body, leave_after=schedule.leaves(number)))

    bodies = [schedule.body(number) for number in range(schedule.streams)]
    await asyncio.gather(*(one(number, body) for number, body in enumerate(bodies)))


async def test_no_answer_is_lost_or_cut_in_silence(
    seed: int, pytestconfig: pytest.Config, tmp_path: Path, make_wall: MakeWall, make_gateway: MakeGateway
) -> None:
    schedule = Schedule(seed, pytestconfig.getoption("--streams") or SUITE_STREAMS)
    walls, pools = [], []
    for number, (dialect, continuation) in enumerate(schedule.ways()):
        wall = make_wall(dialect=dialect, decide=schedule.fault)
        walls.append(wall)
        pools.append(Pool(f"pool-{number}", (wall,), continuation=continuation, order=number // 2))
    gateway = make_gateway(*pools, timeouts=TIMEOUTS, pump=seed % 2 == 1)
    auditor = Auditor(schedule, f"pytest tests/faults/test_schedules.py --seed {seed} --streams {schedule.streams}")
    await run(schedule, gateway, auditor)
    assert gateway.process.poll() is None
    gateway.stop()
    rows, metered = meter.read_rows(gateway.state_dir), {wall.url: wall.seen for wall in walls}
    auditor.balance(rows, metered)
    with (tmp_path / "meter.jsonl").open("w") as file:
        compared = meter.write_meter(file, rows, metered)
    late = meter.late(rows, metered)
    report = auditor.report(walls)
    print(report)
    assert not auditor.findings, report
    assert sum(auditor.verdicts.values()) == schedule.streams, report
    assert compared > schedule.streams / 3, report
    assert late <= schedule.streams / 50, f"{late} times usage was not waited for: {report}"
    assert meter.audit(gateway.state_dir, tmp_path / "meter.jsonl") is None, report
    good = auditor.verdicts["whole"] + auditor.verdicts["left"]
    assert good >= schedule.streams * (1.0 - schedule.trouble), f"second sources saved too few answers: {report}"


def test_expected_answers_are_not_all_alike() -> None:
    schedule = Schedule(1, 50)
    assert len({lm.expected_answer(schedule.body(number)) for number in range(50)}) == 50
