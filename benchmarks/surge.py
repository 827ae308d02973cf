"""A surge against a real gateway over simulated replicas: five times capacity, one part paid to nine parts free.

.venv/bin/python -m benchmarks.surge --minutes 10

Replicas, gateway and clients are processes of this machine. Capacity is measured first, by as many clients as there
are slots, each always asking, or given as it was measured before. The replicas queue as real ones do
(`tests/surge/replica.py`). Then the paid clients come alone, and after that the very same ones, with the same prompts
at the same times, among the free ones of the surge.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.surge.load import FREE, PAID, Client, Load, Sizes, ask, body_of
from tests.surge.replica import Speed
from tests.surge.stand import TOKENS, Stand, stand
from tests.surge.verdict import Obedient, in_time, of_lane, ttft_s

REPLICAS = 4
SETTLES_S = 30.0  # what is made is measured after this
NORMAL = 0.5
SURGE = 5.0


async def capacity(over: Stand, slots: int, seconds: float) -> tuple[float, float]:
    """Return requests and tokens a second with every slot always taken, the replicas asked without the gateway."""
    random, served, ends = Random(5), 0, time.monotonic() + seconds  # noqa: S311

    async def always(port: int) -> None:
        nonlocal served
        while time.monotonic() < ends:
            prompt, answer = Sizes().draw(random)
            client = Client(FREE, "crowd", prompt, answer, 0.0, obeys=False)
            await ask(port, "", body_of(client, 0))
            served += time.monotonic() < ends

    before, began = over.tokens_written(), time.monotonic()
    tasks = [asyncio.create_task(always(port)) for port in over.replicas for _ in range(slots)]
    await asyncio.sleep(ends - time.monotonic())
    tokens = (over.tokens_written() - before) / (time.monotonic() - began)
    await asyncio.gather(*tasks)
    return served / seconds, tokens


async def run(over: Stand, bears: tuple[float, float], surge_s: float, alone_s: float, seed: int) -> dict[str, object]:
    """Run everything and return the numbers; `bears`: requests and tokens a second."""
    requests_per_s, tokens_per_s = bears
    load = Load(over.port, TOKENS, seed)
    await load.run(5.0, NORMAL * requests_per_s)
    alone = await load.run(alone_s, SURGE * requests_per_s, free=False, seed=seed)
    await load.run(10.0, NORMAL * requests_per_s)
    watching = asyncio.create_task(over.watch(surge_s))
    began = time.monotonic()
    surging = asyncio.create_task(load.run(surge_s, SURGE * requests_per_s, seed=seed))
    await asyncio.sleep(SETTLES_S)
    first = over.tokens_written(), time.monotonic()
    surge = await surging
    last = over.tokens_written(), time.monotonic()
    seen = await watching
    soon = await load.run(5.0, NORMAL * requests_per_s)
    after = await load.run(30.0, NORMAL * requests_per_s)
    await load.end()
    obedient = Obedient.of(surge, Speed().prompt_tokens_per_s)
    half = [one for one in seen if one[0] < began + surge_s / 2]
    made = (last[0] - first[0]) / (last[1] - first[1])
    free, paid = of_lane(surge, FREE), of_lane(surge, PAID)
    same = paid[: len(of_lane(alone, PAID))]
    return {
        "capacity, requests/s": requests_per_s,
        "capacity, tokens/s": tokens_per_s,
        "offered in the surge, requests/s": len(surge) / surge_s,
        "surge, s": surge_s,
        "paid alone, s": alone_s,
        "paid requests": len(paid),
        "paid requests alone": len(same),
        "paid in time (2 s)": in_time(surge, PAID),
        "paid TTFT p99 alone, s": ttft_s(alone, PAID, 0.99),
        "paid TTFT p99 in the surge, s": ttft_s(surge, PAID, 0.99),
        "paid TTFT p99, times its value alone": ttft_s(surge, PAID, 0.99) / ttft_s(alone, PAID, 0.99),
        "the same, of the very clients that came alone": ttft_s(same, PAID, 0.99) / ttft_s(alone, PAID, 0.99),
        "seconds from the first late paid request to the last": _late_s(surge),
        "paid TTFT p50 alone, s": ttft_s(alone, PAID, 0.5),
        "paid TTFT p50 in the surge, s": ttft_s(surge, PAID, 0.5),
        "tokens/s in the surge, of capacity": made / tokens_per_s,
        "free requests": len(free),
        "free served": sum(one.served for one in free),
        "free TTFT p99, s": ttft_s(surge, FREE, 0.99),
        "came back when told": obedient.came_back,
        "of them let in within 30% of the wait": obedient.got_in_in_time / max(obedient.came_back, 1),
        "of them served in the end": obedient.got_in / max(obedient.came_back, 1),
        "trickle's requests served": _served(free, "trickle"),
        "flood's requests served": _served(free, "flood"),
        "most waiting, first half": max(one[1] for one in half),
        "most waiting": max(one[1] for one in seen),
        "most places": max(one[2] for one in seen),
        "gateway MiB, 1 min in": next(one[3] for one in seen if one[0] >= began + min(60.0, surge_s / 2)),
        "gateway MiB, at the end": seen[-1][3],
        "free in time (10 s), first 5 s after": in_time(soon, FREE),
        "free in time (10 s), then": in_time(after, FREE),
        "paid TTFT p99 after, s": ttft_s(after, PAID, 0.99),
        "most at once at a replica": max(one["most_at_once"] for one in over.stats()),
        "attempts": over.attempts(),
        "refused": dict(Counter(one.refused for client in surge for one in client.tries if one.refused)),
        "statuses": dict(Counter(one.status for client in surge for one in client.tries)),
    }


def _late_s(clients: list[Client]) -> float:
    """Return how many seconds lie between the first and the last paid request that was late: one bad time, or many."""
    late = [one.came for one in of_lane(clients, PAID) if not one.tries or (one.tries[0].first_token_s or 99.0) > 2.0]
    return max(late) - min(late) if late else 0.0


def _served(clients: list[Client], tenant: str) -> float:
    mine = [one for one in clients if one.tenant == tenant]
    return sum(one.served for one in mine) / max(len(mine), 1)


def main() -> None:
    """Print the numbers as a table, or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--alone-minutes", type=float, help="as long as the surge, if not given")
    parser.add_argument("--capacity", type=float, nargs=2, metavar=("REQUESTS", "TOKENS"), help="a second")
    parser.add_argument("--workers", type=int, default=1, help="of the gateway")
    parser.add_argument("--slots", type=int, default=8, help="of each replica")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    surge_s = given.minutes * 60.0
    alone_s = surge_s if given.alone_minutes is None else given.alone_minutes * 60.0
    with tempfile.TemporaryDirectory() as name, stand(Path(name), REPLICAS, given.slots, given.workers) as over:
        bears = given.capacity or asyncio.run(capacity(over, given.slots, 30.0))
        found = asyncio.run(run(over, (bears[0], bears[1]), surge_s, alone_s, given.seed))
        ratios = [line for line in over.metrics().splitlines() if line.startswith("secondsource_first_token_pred")]
    if given.json:
        print(json.dumps(found))  # noqa: T201
        return
    for name, value in found.items():
        print(f"| {name} | {value:.3f} |" if isinstance(value, float) else f"| {name} | {value} |")  # noqa: T201
    print("\n".join(ratios))  # noqa: T201


if __name__ == "__main__":
    main()
