"""Does the portable model answer as transformers and llama.cpp do, on one GGUF file, position by position?

    PYTHONPATH=src python benchmarks/engine_parity.py MODEL.gguf --positions 2048

Teacher-forced: every engine reads the same tokens (this repository's documents), in texts of 512, and says what
comes next after each. Needs torch and transformers (`pip install secondsource[oracle]`) and llama.cpp
(`secondsource[embedded]`). Writes one JSON object. transformers reads the GGUF with its own code.
"""

import argparse
import json
import socket
import subprocess
import sys
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
import transformers

from secondsource.engine.cache import empty_cache
from secondsource.engine.decoder import prefill
from secondsource.engine.load import LoadedModel, load_model

TEXT_TOKENS = 512
SHOWN = 20  # how many of llama.cpp's likeliest tokens are asked for


def main() -> int:
    """Print the comparison of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--against", choices=("transformers", "llama.cpp", "both"), default="both")
    arguments = parser.parse_args()
    model = load_model(arguments.model, "float32")
    texts = token_texts(model, -(-arguments.positions // TEXT_TOKENS))
    ours = [our_log_shares(model, text) for text in texts]
    result: dict[str, Any] = {
        "model": arguments.model.name,
        "positions": TEXT_TOKENS * len(texts),
        "versions": {name: version(name) for name in ("jax", "torch", "transformers", "xllamacpp")},
    }
    if arguments.against != "llama.cpp":
        result["transformers"] = against_transformers(arguments.model, texts, ours)
    if arguments.against != "transformers":
        result["llama.cpp"] = against_llama_cpp(arguments.model, texts, ours)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0


def token_texts(model: LoadedModel, count: int) -> list[list[int]]:
    """Return `count` texts of TEXT_TOKENS tokens from our documents."""
    root = Path(__file__).parent.parent
    files = sorted((root / "docs").rglob("*.md"))
    tokens = model.tokenizer.encode("\n".join(file.read_text("utf-8") for file in files))
    first = model.tokenizer.beginning_of_sequence
    begin = [first] if first is not None and model.tokenizer.adds_beginning else []
    length = TEXT_TOKENS - len(begin)
    return [begin + tokens[start : start + length] for start in range(0, count * length, length)]


def our_log_shares(model: LoadedModel, text: list[int]) -> np.ndarray:
    """Return our log-probabilities after each token, [T, V] float32."""
    one = jnp.zeros(1, jnp.int32)
    logits, _ = prefill(
        model.parameters,
        model.config,
        jnp.asarray([text], jnp.int32),
        one,
        one + len(text),
        one,
        empty_cache(model.config, 1, len(text), jnp.dtype(jnp.float32)),
        all_positions=True,
    )
    return log_shares(np.asarray(logits[0]))


def log_shares(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of softmax over the last axis."""
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def against_transformers(path: Path, texts: list[list[int]], ours: list[np.ndarray]) -> dict[str, Any]:
    """Compare with transformers in float32 on the same dequantised weights."""
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        str(path.parent), gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    )
    agreed, divergences, furthest = 0, [], 0.0
    for text, mine in zip(texts, ours, strict=True):
        with torch.no_grad():
            theirs = log_shares(reference(torch.tensor([text])).logits[0].numpy())
        agreed += int((mine.argmax(-1) == theirs.argmax(-1)).sum())
        divergences.extend((np.exp(theirs) * (theirs - mine)).sum(-1).tolist())
        furthest = max(furthest, float(np.abs(theirs - mine).max()))
    return {
        "top1_agreed": agreed,
        "kl_mean": float(np.mean(divergences)),
        "kl_max": float(np.max(divergences)),
        "logprob_gap_max": furthest,
    }


def against_llama_cpp(path: Path, texts: list[list[int]], ours: list[np.ndarray]) -> dict[str, Any]:
    """Compare with llama.cpp on the quantised weights; a miss's gap is llama.cpp's own between the two tokens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "secondsource.embedded.llamacpp_server", "--model", str(path)]
    command += ["--port", str(port), "--slots", "1", "--context-per-slot", str(TEXT_TOKENS + 8), "--threads", "2"]
    command += ["--alias", "m", "--log", "llama-parity.log"]
    agreed, gaps = 0, []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()  # it says when it serves
        for text, mine in zip(texts, ours, strict=True):
            for position in range(len(text)):
                likely = likeliest(port, text[: position + 1])
                choice = int(mine[position].argmax())
                best = next(iter(likely))
                agreed += choice == best
                if choice != best:
                    gaps.append(likely[best] - likely.get(choice, -np.inf))
        child.stdin.close()
    return {
        "top1_agreed": agreed,
        "misses": len(gaps),
        "miss_gap_max": max(gaps, default=0.0),
        "miss_gaps": sorted(gaps),
    }


def likeliest(port: int, prompt: list[int]) -> dict[int, float]:
    """Return llama.cpp's likeliest next tokens with their log-probabilities, best first."""
    body = {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": SHOWN, "cache_prompt": True}
    request = urllib.request.Request(  # our own child on the loopback
        f"http://127.0.0.1:{port}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        shown = json.load(answer)["completion_probabilities"][0]["top_logprobs"]
    return {one["id"]: one["logprob"] for one in shown}


if __name__ == "__main__":
    sys.exit(main())
