"""A surge against a real gateway over llama.cpp's own server: five times what it can do, one part paid to nine.

.venv/bin/python -m benchmarks.surge_on_llama_cpp MODEL.gguf --seconds 180

Capacity is measured first, by as many clients as there are slots, each always asking llama.cpp itself. Everything
runs on one machine, so that what the clients take is missing to the model.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from subprocess import PIPE, Popen
from sys import executable

from tests.faults.harness import free_ports
from tests.surge.load import FREE, PAID, Client, Load, Sizes, ask, body_of
from tests.surge.stand import TOKENS, Stand, gateway_over
from tests.surge.verdict import Obedient, in_time, of_lane, ttft_s

SLOTS = 4
PROMISED_S = {PAID: 5.0, FREE: 20.0}  # with one reader, paid alone has its longest 0.1% at 4 s
SIZES = Sizes(prompt=(4.0, 0.5), answer=(3.2, 0.4), most_prompt=200, most_answer=60)
SURGE = 5.0


async def capacity(over: Stand, seconds: float) -> tuple[float, float]:
    """Return requests and tokens a second of the replica alone, every slot always taken."""
    random, served, tokens = Random(5), 0, 0  # noqa: S311 -- a fixed seed
    ends = time.monotonic() + seconds

    async def always() -> None:
        nonlocal served, tokens
        while time.monotonic() < ends:
            client = Client(FREE, "crowd", *SIZES.draw(random), 0.0, obeys=False)
            one = await ask(over.replicas[0], "", body_of(client, random.randrange(10**8)))
            if time.monotonic() < ends:
                served, tokens = served + 1, tokens + one.tokens

    await asyncio.gather(*(always() for _ in range(SLOTS)))
    return served / seconds, tokens / seconds


async def prompt_tokens_per_s(over: Stand) -> float:
    """Return how fast the replica reads prompts, one after another with nothing else to do."""
    random, tokens, seconds = Random(7), 0, 0.0  # noqa: S311 -- a fixed seed
    for _ in range(12):
        client = Client(FREE, "crowd", SIZES.draw(random)[0], 1, 0.0, obeys=False)
        one = await ask(over.replicas[0], "", body_of(client, random.randrange(10**8)))
        tokens, seconds = tokens + client.prompt_tokens, seconds + one.ended - one.sent
    return tokens / seconds


def tokens_of(clients: list[Client]) -> int:
    """Return how many tokens reached them."""
    return sum(one.tokens for client in clients for one in client.tries)


def served(clients: list[Client]) -> float:
    """Return which part of the paid requests got a whole answer."""
    paid = of_lane(clients, PAID)
    return sum(one.served for one in paid) / max(len(paid), 1)


def by_quarter(clients: list[Client], seconds: float) -> list[tuple[float, float]]:
    """Return the median and the longest time to the first token of paid requests, as the surge goes on."""
    began = clients[0].came
    quarters = [[one for one in clients if int(4.0 * (one.came - began) / seconds) == number] for number in range(4)]
    return [(round(ttft_s(one, PAID, 0.5), 2), round(ttft_s(one, PAID, 1.0), 2)) for one in quarters]


async def run(over: Stand, seconds: float) -> dict[str, object]:
    """Run everything and return the numbers."""
    reads_per_s = await prompt_tokens_per_s(over)
    requests_per_s, tokens_per_s = await capacity(over, 30.0)
    load = Load(over.port, TOKENS, 1, SIZES)
    alone = await load.run(seconds / 2, SURGE * requests_per_s, free=False, seed=1)
    watching = asyncio.create_task(over.watch(seconds))
    began = time.monotonic()
    surge = await load.run(seconds, SURGE * requests_per_s, seed=1)
    made = tokens_of(surge) / (time.monotonic() - began)
    seen = await watching
    await load.end(15.0)
    free, obedient = of_lane(surge, FREE), Obedient.of(surge, reads_per_s)
    return {
        "capacity, requests/s": requests_per_s,
        "capacity, tokens/s": tokens_per_s,
        "offered, requests/s": len(surge) / seconds,
        "paid requests": len(of_lane(surge, PAID)),
        "prompts read alone, tokens/s (four bytes each)": reads_per_s,
        "paid in time (5 s), alone and in the surge": tuple(in_time(one, PAID, PROMISED_S) for one in (alone, surge)),
        "paid served, alone and in the surge": (served(alone), served(surge)),
        "paid TTFT p50, alone and in the surge, s": (ttft_s(alone, PAID, 0.5), ttft_s(surge, PAID, 0.5)),
        "paid TTFT p90, alone and in the surge, s": (ttft_s(alone, PAID, 0.9), ttft_s(surge, PAID, 0.9)),
        "paid TTFT p99, alone and in the surge, s": (ttft_s(alone, PAID, 0.99), ttft_s(surge, PAID, 0.99)),
        "paid TTFT, quarter by quarter of the surge: median, most, s": by_quarter(surge, seconds),
        "tokens/s of answers ended in the surge, of capacity": made / tokens_per_s,
        "free requests": len(free),
        "free served": sum(one.served for one in free),
        "came back when told, let in within 30%, served": (
            obedient.came_back,
            obedient.got_in_in_time,
            obedient.got_in,
        ),
        "most waiting": max(one[1] for one in seen),
        "gateway MiB, at the beginning and the end": (seen[0][3], seen[-1][3]),
        "refused": dict(Counter(one.refused for client in surge for one in client.tries if one.refused)),
    }


def main() -> None:
    """Print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=180.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory, [port] = Path(name), free_ports(1)
        command = [executable, "-m", "secondsource.embedded.llamacpp_server", "--model", str(given.model)]
        command += ["--port", str(port), "--slots", str(SLOTS), "--context-per-slot", "1024", "--threads", "1"]
        command += ["--alias", "chat", "--log", str(directory / "llama.log")]
        with Popen(command, stdin=PIPE, stdout=PIPE) as llama:
            assert llama.stdin
            assert llama.stdout
            print(llama.stdout.readline().decode().strip())  # noqa: T201
            with gateway_over(directory, [port], SLOTS, promised_s=PROMISED_S) as over:
                for key, value in asyncio.run(run(over, given.seconds)).items():
                    print(f"| {key} | {value:.3f} |" if isinstance(value, float) else f"| {key} | {value} |")  # noqa: T201
            llama.stdin.close()
            llama.wait(timeout=20)


if __name__ == "__main__":
    main()
