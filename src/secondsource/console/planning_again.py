"""Plans again for the demand that was measured, in a process of its own: the gateway's loop has other things to do."""

import asyncio
import sys

import msgspec

from secondsource.console.standing import Standing, planned_chips
from secondsource.core.errors import NoAnswerError
from secondsource.planner.kept import KeptPlan, KeptReport

SEARCH_S = 30
WITHIN_S = 180.0
LEAST, MOST = 0.01, 100.0  # times the planned demand; beyond, the SPEC itself is to be looked at
NICE = ("nice", "-n", "15")


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Chips of one supplier in this month, in the kept plan and in the new one."""

    supplier: str
    chip: str
    before: int
    after: int


class PlannedAgain(msgspec.Struct, frozen=True, kw_only=True):
    """What a new plan would change; dollars over all its months."""

    factors: dict[str, float]  # by lane: measured over planned
    before_usd: float
    after_usd: float
    gap: float
    changes: list[Change]


def factors_of(standing: Standing) -> dict[str, float]:
    """Return how many times the planned demand each lane asked for; lanes that nobody used are left as planned."""
    return {
        line.lane: min(max(round(line.drift + 1, 3), LEAST), MOST) for line in standing.demand if line.drift is not None
    }


async def plan_again(kept: KeptPlan, standing: Standing) -> PlannedAgain:
    """Return what a plan for the measured demand changes; raises NoAnswerError where there is none."""
    factors = factors_of(standing)
    command = [*NICE, sys.executable, "-m", "secondsource", "plan", kept.spec, "--json", "--seconds", str(SEARCH_S)]
    for lane, factor in factors.items():
        command += ["--demand", f"{lane}={factor}"]
    after = await _run(command)
    old, new = planned_chips(kept.plan, standing.month), planned_chips(after, standing.month)
    return PlannedAgain(
        factors=factors,
        before_usd=float(kept.plan.total_usd),
        after_usd=float(after.total_usd),
        gap=after.gap,
        changes=[
            Change(
                supplier=supplier, chip=chip, before=old.get((supplier, chip), 0), after=new.get((supplier, chip), 0)
            )
            for supplier, chip in sorted(old.keys() | new.keys())
            if old.get((supplier, chip), 0) or new.get((supplier, chip), 0)
        ],
    )


async def _run(command: list[str]) -> KeptReport:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(WITHIN_S):
            out, said = await process.communicate()
    except TimeoutError:
        raise NoAnswerError(f"no plan within {WITHIN_S:.0f} s; run `secondsource plan` by hand") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise NoAnswerError(said.decode(errors="replace").strip()[-2000:] or "the planner failed")
    return msgspec.json.decode(out, type=KeptReport)
