"""A surge against a real gateway over llama.cpp's own server: five times what it can do, one part paid to nine.

.venv/bin/python -m benchmarks.surge_on_llama_cpp MODEL.gguf --minutes 10

Replicas of one thread each, gateway and clients are processes of one machine: what gateway and clients take of the
processor is missing to the replicas, and is said. Capacity is measured first, by as many clients as there are slots,
each always asking llama.cpp itself, or given as it was measured before. Then some of the paid clients come alone, with
the same prompts at the same times as in the surge: those of its first half before it and those of its second after it.
Then capacity is measured once more. A machine that others share is faster in one quarter of an hour than in the next.
"""

import argparse
import asyncio
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from subprocess import PIPE, Popen
from sys import executable

from tests.faults.harness import free_ports
from tests.surge.load import FREE, PAID, Client, Load, Sizes, ask, body_of
from tests.surge.stand import TOKENS, Stand, gateway_over
from tests.surge.verdict import Obedient, in_time, of_lane, ttft_s

PROMISED_S = {PAID: 6.0, FREE: 20.0}  # of paid alone the slowest in a thousand takes so long
SIZES = Sizes(prompt=(3.7, 0.8), answer=(3.5, 0.5), most_prompt=300, most_answer=80)
SURGE, NORMAL = 5.0, 0.5
SETTLES_S = 20.0
FIRST, SECOND = 1, 2  # seeds of the surge's halves
WARMS_S = FILLS_S = 10.0
CAPACITY_S = 50.0
CONTEXT_TOKENS = 1024
WRITTEN = "llamacpp:tokens_predicted_total "  # by answers that have ended


@dataclass(frozen=True)
class Llamas:
    """Replicas of llama.cpp on this machine."""

    ports: list[int]
    slots: int
    processes: "list[Popen[bytes]]"

    def tokens_written(self) -> float:
        """Return the tokens of all answers that have ended."""
        pages = (_page(f"http://127.0.0.1:{port}/metrics") for port in self.ports)
        return sum(float(line.removeprefix(WRITTEN)) for page in pages for line in page if line.startswith(WRITTEN))

    def cpu_s(self) -> float:
        """Return the processor time they have had."""
        return sum(cpu_s(one.pid) for one in self.processes)


def _page(url: str) -> list[str]:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 -- our own replica
        return str(answer.read().decode()).splitlines()


def cpu_s(pid: int) -> float:
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def llamas(directory: Path, model: Path, count: int, slots: int, prompt_batch: int) -> Iterator[Llamas]:
    """Start replicas, each of one thread, and end them."""
    with ExitStack() as stack:
        ports, processes = free_ports(count), []
        for port in ports:
            command = [executable, "-m", "secondsource.embedded.llamacpp_server", "--model", str(model)]
            command += ["--port", str(port), "--slots", str(slots), "--context-per-slot", str(CONTEXT_TOKENS)]
            command += ["--threads", "1", "--alias", "chat", "--prompt-batch", str(prompt_batch)]
            command += ["--log", str(directory / f"llama-{port}.log")]
            processes.append(stack.enter_context(Popen(command, stdin=PIPE, stdout=PIPE)))
        for process in processes:
            assert process.stdout
            print(process.stdout.readline().decode().strip())  # noqa: T201
        yield Llamas(ports, slots, processes)
        for process in processes:
            assert process.stdin
            process.stdin.close()


async def capacity(over: Llamas, seconds: float) -> tuple[float, float]:
    """Return requests and tokens a second of the replicas alone, every slot always taken."""
    random, served = Random(5), 0  # noqa: S311 -- a fixed seed
    begins = time.monotonic() + FILLS_S
    ends = begins + seconds

    async def always(port: int) -> None:
        nonlocal served
        while time.monotonic() < ends:
            client = Client(FREE, "crowd", *SIZES.draw(random), 0.0, obeys=False)
            one = await ask(port, "", body_of(client, random.randrange(10**8)))
            served += begins <= one.ended < ends

    tasks = [asyncio.create_task(always(port)) for port in over.ports for _ in range(over.slots)]
    await asyncio.sleep(FILLS_S)
    before = await asyncio.to_thread(over.tokens_written), time.monotonic()
    await asyncio.sleep(ends - time.monotonic())
    after = await asyncio.to_thread(over.tokens_written), time.monotonic()
    await asyncio.gather(*tasks)
    return served / seconds, (after[0] - before[0]) / (after[1] - before[1])


async def prompt_tokens_per_s(over: Llamas) -> float:
    """Return how fast a replica reads prompts, one after another with nothing else to do."""
    random, tokens, seconds = Random(7), 0, 0.0  # noqa: S311 -- a fixed seed
    for _ in range(12):
        client = Client(FREE, "crowd", SIZES.draw(random)[0], 1, 0.0, obeys=False)
        one = await ask(over.ports[0], "", body_of(client, random.randrange(10**8)))
        tokens, seconds = tokens + client.prompt_tokens, seconds + one.ended - one.sent
    return tokens / seconds


@dataclass
class Surged:
    """What was seen of the surge by those outside it; CPU in cores."""

    tokens_per_s: float = 0.0
    gateway_cpu: float = 0.0
    clients_cpu: float = 0.0
    replicas_cpu: float = 0.0


async def surge(
    over: Stand, replicas: Llamas, load: Load, seconds: float, per_s: float
) -> tuple[list[list[Client]], Surged]:
    """Let the surge come, and measure from when it has settled to its end; returns the clients of its halves."""

    async def both() -> list[list[Client]]:
        return [await load.run(seconds / 2, SURGE * per_s, seed=seed) for seed in (FIRST, SECOND)]

    running = asyncio.create_task(both())
    await asyncio.sleep(SETTLES_S)

    async def look() -> tuple[float, float, float, float, float]:
        written = await asyncio.to_thread(replicas.tokens_written)
        return time.monotonic(), written, cpu_s(over.gateway.pid), time.process_time(), replicas.cpu_s()

    first = await look()
    halves = await running
    last = await look()
    took_s = last[0] - first[0]
    return halves, Surged(*((after - before) / took_s for before, after in zip(first[1:], last[1:], strict=True)))


async def run(
    over: Stand, replicas: Llamas, bears: tuple[float, float] | None, surge_s: float, alone_s: float
) -> dict[str, object]:
    """Run everything and return the numbers; `bears`: requests and tokens a second."""
    reads_per_s = await prompt_tokens_per_s(replicas)
    requests_per_s, tokens_per_s = bears or await capacity(replicas, CAPACITY_S)
    load = Load(over.port, TOKENS, 1, SIZES)
    await load.run(WARMS_S, NORMAL * requests_per_s)
    alone = [await load.run(alone_s / 2, SURGE * requests_per_s, free=False, seed=FIRST)]
    await load.run(WARMS_S, NORMAL * requests_per_s)
    began, watching = time.monotonic(), asyncio.create_task(over.watch(surge_s))
    halves, seen_outside = await surge(over, replicas, load, surge_s, requests_per_s)
    seen = await watching
    soon = await load.run(10.0, NORMAL * requests_per_s)
    after = await load.run(20.0, NORMAL * requests_per_s)
    alone.append(await load.run(alone_s / 2, SURGE * requests_per_s, free=False, seed=SECOND))
    await load.end(20.0)
    again = tokens_per_s if bears else (await capacity(replicas, CAPACITY_S))[1]
    bears_per_s = (tokens_per_s + again) / 2.0
    by_itself, surging = [*alone[0], *alone[1]], [*halves[0], *halves[1]]
    free, obedient = of_lane(surging, FREE), Obedient.of(surging, reads_per_s)
    half = [one for one in seen if one[0] < began + surge_s / 2]
    found: dict[str, object] = {
        "capacity, requests/s": requests_per_s,
        "capacity, tokens/s, before and after": (tokens_per_s, again),
        "offered, requests/s": len(surging) / surge_s,
        "cores of replicas, gateway, clients": tuple(
            round(one, 3) for one in (seen_outside.replicas_cpu, seen_outside.gateway_cpu, seen_outside.clients_cpu)
        ),
        "paid requests, alone and in the surge": (len(by_itself), len(of_lane(surging, PAID))),
        "paid in time (6 s), alone and in the surge": tuple(in_time(o, PAID, PROMISED_S) for o in (by_itself, surging)),
        "tokens/s in the surge, of capacity": seen_outside.tokens_per_s / bears_per_s,
        "free served": f"{sum(one.served for one in free)} of {len(free)}",
        "free served, the trickle and the flood": tuple(_served(free, one) for one in ("trickle", "flood")),
        "came back when told": obedient.came_back,
        "of them let in within 30% of the wait": obedient.got_in_in_time / max(obedient.came_back, 1),
        "of them served in the end": obedient.got_in / max(obedient.came_back, 1),
        "most waiting, in the first half and in all": (max(one[1] for one in half), max(one[1] for one in seen)),
        "gateway MiB, after a minute and at the end": (seen[min(60, len(seen) - 1)][3], seen[-1][3]),
        "free in time (20 s), first 10 s after, and then": tuple(in_time(o, FREE, PROMISED_S) for o in (soon, after)),
        "attempts": over.attempts(),
        "refused": dict(Counter(one.refused for client in surging for one in client.tries if one.refused)),
    }
    same = [one for came, half in zip(alone, halves, strict=True) for one in of_lane(half, PAID)[: len(came)]]
    return found | _first_tokens(by_itself, surging, same)


def _first_tokens(alone: list[Client], surging: list[Client], same: list[Client]) -> dict[str, object]:
    """Return how long paid's first tokens took; `same`: of the surge those who came alone too."""
    found: dict[str, object] = {}
    for part in (0.5, 0.9, 0.99):
        name, times = f"paid TTFT p{100 * part:.0f}", [ttft_s(one, PAID, part) for one in (alone, surging, same)]
        found[f"{name}, alone, in the surge, the very same in the surge, s"] = times
        found[f"{name}, times alone: all, the very same"] = (times[1] / times[0], times[2] / times[0])
    return found


def _served(clients: list[Client], tenant: str) -> float:
    mine = [one for one in clients if one.tenant == tenant]
    return sum(one.served for one in mine) / max(len(mine), 1)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return ", ".join(map(_shown, value)) if isinstance(value, tuple | list) else str(value)


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--alone-minutes", type=float, default=2.0)
    parser.add_argument("--capacity", type=float, nargs=2, metavar=("REQUESTS", "TOKENS"), help="a second")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--slots", type=int, default=8, help="of each replica")
    parser.add_argument("--prompt-batch", type=int, default=512, help="tokens of prompts that llama.cpp reads at once")
    given = parser.parse_args()
    bears = None if given.capacity is None else (given.capacity[0], given.capacity[1])
    with (
        tempfile.TemporaryDirectory() as name,
        llamas(Path(name), given.model, given.replicas, given.slots, given.prompt_batch) as replicas,
        gateway_over(Path(name), replicas.ports, given.slots, promised_s=PROMISED_S) as over,
    ):
        found = asyncio.run(run(over, replicas, bears, given.minutes * 60.0, given.alone_minutes * 60.0))
    for key, value in found.items():
        print(f"| {key} | {_shown(value)} |")  # noqa: T201


if __name__ == "__main__":
    main()
