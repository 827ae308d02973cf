"""Does the portable model answer as transformers and llama.cpp do, on one GGUF file, position by position?

    PYTHONPATH=src:. python benchmarks/engine_parity.py MODEL.gguf --positions 2048 [--against llama.cpp-float32]

Teacher-forced: every engine reads the same tokens (this repository's documents), in texts of 512, and says what
comes next after each. llama.cpp is asked twice: as it runs the file (activations rounded to 8 bits, keys and values
to 16), and on the same weights written out in float32, with its cache in float32. transformers reads the GGUF with
its own code. What llama.cpp said of a text is kept in --kept, so that an interrupted run goes on. Writes one JSON
object. Needs torch and transformers (`pip install secondsource[oracle]`) and llama.cpp
(`secondsource[embedded]`).
"""

import argparse
import hashlib
import json
import socket
import sys
import tempfile
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import jax.numpy as jnp
import numpy as np
import xllamacpp
from tests.parity_sources.rewrite import rewrite

from secondsource.engine.cache import empty_cache
from secondsource.engine.decoder import prefill
from secondsource.engine.load import LoadedModel, load_model

TEXT_TOKENS = 512
PROMPT_BATCH = 48  # as the embedded default reads prompts; after the first token there is one at a time anyway
SHOWN = 20  # how many of llama.cpp's likeliest tokens are asked for


def main() -> int:
    """Print the comparison of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--positions", type=int, default=2048)
    parser.add_argument("--against", choices=("transformers", "llama.cpp", "llama.cpp-float32", "both"), default="both")
    parser.add_argument("--kept", type=Path, default=Path("engine_parity.jsonl"), metavar="FILE.jsonl")
    parser.add_argument("--most", type=int, metavar="N", help="ask llama.cpp of so many texts; the next run goes on")
    arguments = parser.parse_args()
    model = load_model(arguments.model, "float32")
    texts = token_texts(model, -(-arguments.positions // TEXT_TOKENS))
    ours = [our_log_shares(model, text) for text in texts]
    result: dict[str, Any] = {
        "model": arguments.model.name,
        "positions": TEXT_TOKENS * len(texts),
        "versions": {name: version(name) for name in ("jax", "xllamacpp")},
    }
    if not arguments.against.startswith("llama.cpp"):
        result["transformers"] = against_transformers(arguments.model, texts, ours)
    if arguments.against != "transformers":
        asked = Asked(arguments.model, arguments.kept, arguments.most)
        result["llama.cpp"] = against_llama_cpp(asked, texts, ours, exact_only=arguments.against.endswith("float32"))
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
    import torch  # noqa: PLC0415 -- not needed against llama.cpp
    import transformers  # noqa: PLC0415

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
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "top1_agreed": agreed,
        "kl_mean": float(np.mean(divergences)),
        "kl_max": float(np.max(divergences)),
        "logprob_gap_max": furthest,
    }


class Asked:
    """What llama.cpp said of texts, and says of more of them."""

    def __init__(self, model: Path, kept: Path, most: int | None) -> None:
        self.model = model
        self._kept = kept
        self._left = most
        self._said: dict[str, list[dict[int, float]]] = {}
        for line in kept.read_text("utf-8").splitlines() if kept.exists() else ():
            for key, said in json.loads(line).items():
                self._said[key] = [{int(token): logprob for token, logprob in likely} for likely in said]

    def likeliest(self, model: Path, texts: list[list[int]], *, exact: bool) -> list[list[dict[int, float]]]:
        """Return what `model` said of each text; as many texts fewer as --most leaves out."""
        found = []
        for text in texts:
            key = hashlib.sha256(f"{self.model.name} {exact} {text}".encode()).hexdigest()
            if key not in self._said:
                if self._left == 0:
                    break
                self._left = None if self._left is None else self._left - 1
                (self._said[key],) = llama_cpp_likeliest(model, [text], exact=exact)
                with self._kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({key: [list(likely.items()) for likely in self._said[key]]}) + "\n")
            found.append(self._said[key])
        return found


def against_llama_cpp(
    asked: Asked, texts: list[list[int]], ours: list[np.ndarray], *, exact_only: bool
) -> dict[str, Any]:
    """Compare with llama.cpp as it runs the file, and with itself where it computes in float32 throughout."""
    with tempfile.TemporaryDirectory() as directory:
        whole = rewrite(asked.model, Path(directory) / "float32.gguf", gguf.GGMLQuantizationType.F32)
        exact = asked.likeliest(whole, texts, exact=True)
    choices = [mine.argmax(-1).tolist() for mine in ours]
    answer = {"in_float32": {**compared(choices, exact), **differences(ours, exact)}}
    if exact_only:
        return answer
    theirs = asked.likeliest(asked.model, texts, exact=False)
    exact_choices = [[next(iter(likely)) for likely in text] for text in exact]
    return {
        **answer,
        "as_it_runs_the_file": compared(choices, theirs),
        "as_it_runs_the_file_against_itself_in_float32": compared(exact_choices, theirs),
    }


def differences(ours: list[np.ndarray], judged: list[list[dict[int, float]]]) -> dict[str, float]:
    """Return how far our log-probability of the judge's first choice lies from the judge's, in nats."""
    gaps = [
        abs(float(row[best]) - likely[best])
        for mine, likelies in zip(ours, judged, strict=False)
        for row, likely in zip(mine, likelies, strict=True)
        for best in (next(iter(likely)),)
    ]
    return {"first_choice_logprob_gap_max": max(gaps, default=0.0)}


def compared(choices: list[list[int]], judged: list[list[dict[int, float]]]) -> dict[str, Any]:
    """Count how often `choices` are the judge's likeliest; a miss's gap is the judge's own between the two tokens."""
    agreed, gaps, missed_at = 0, [], []
    for chosen, likelies in zip(choices, judged, strict=False):  # fewer were asked than are to be
        for position, (choice, likely) in enumerate(zip(chosen, likelies, strict=True)):
            best = next(iter(likely))
            agreed += int(choice == best)
            if choice != best:
                gaps.append(likely[best] - likely.get(choice, -np.inf))
                missed_at.append(position)
    return {
        "positions": sum(map(len, judged)),
        "top1_agreed": agreed,
        "misses": len(gaps),
        "miss_gap_max": max(gaps, default=0.0),
        "miss_gaps": sorted(gaps),
        "misses_by_quarter_of_a_text": np.histogram(missed_at, 4, (0, max(map(len, choices))))[0].tolist(),
    }


def llama_cpp_likeliest(path: Path, texts: list[list[int]], *, exact: bool) -> list[list[dict[int, float]]]:
    """Return llama.cpp's likeliest tokens after each token; `exact`: keys and values in float32, not 16 bits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.hostnames, parameters.port = ["127.0.0.1"], port
    parameters.n_parallel, parameters.n_ctx = 1, max(map(len, texts)) + 8
    parameters.n_batch = parameters.n_ubatch = PROMPT_BATCH
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.fit_params = parameters.ui = False
    if exact:
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(parameters)  # it serves as long as the object lives
    found = [[likeliest(port, text[: position + 1]) for position in range(len(text))] for text in texts]
    del server
    return found


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
