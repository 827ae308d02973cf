"""Write what transformers, in float32, answers on our tiny random models: tests/contract/engine_golden.npz.

    PYTHONPATH=. python benchmarks/engine_oracle.py

Needs torch and transformers, which no test does (`pip install secondsource[oracle]`).
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from tests.contract.engine_tiny import DOCUMENTS, tokens, write_model

GOLDEN = Path(__file__).parent.parent / "tests" / "contract" / "engine_golden.npz"


def main() -> None:
    """Write the file, with the versions that made it."""
    torch.manual_seed(0)
    golden = {name: logits(name) for name in DOCUMENTS}
    versions = np.array([f"torch {torch.__version__}", f"transformers {transformers.__version__}"])
    np.savez_compressed(GOLDEN, versions=versions, **golden)
    sys.stdout.write(f"{GOLDEN}: {', '.join(versions)}; {', '.join(golden)}\n")


def logits(name: str) -> np.ndarray:
    """Return transformers' logits of our tokens on one tiny model, [2, T, V] float32."""
    with tempfile.TemporaryDirectory() as directory:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            write_model(name, Path(directory)), dtype=torch.float32, attn_implementation="eager"
        )
        with torch.no_grad():
            return model(torch.from_numpy(tokens())).logits.numpy().astype(np.float32)


if __name__ == "__main__":
    main()
