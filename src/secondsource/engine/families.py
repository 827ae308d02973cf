"""The model families, each a short description of how it departs from the plain decoder.

Llama 3 is the plain decoder. A family's name is also its architecture in GGUF metadata.
"""

import msgspec


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What no file says about a family's models; the numbers are in their files."""

    name: str
    architectures: tuple[str, ...]  # in a Hugging Face config.json
    query_key_norm: bool = False
    sandwich_norms: bool = False
    activation: str = "silu"
    scales_embedding: bool = False  # by the square root of the width
    norm_offset: float = 0.0  # what Hugging Face's norm weights lack; GGUF's have it added
    interleaved_rotary: bool = False  # GGUF stores query and key rows for rotating neighbours, not halves
    global_every: int = 0  # every so-manieth layer looks back without a bound; 0: all do
    local_rope_base: float = 0.0


LLAMA = Family(name="llama", architectures=("LlamaForCausalLM",), interleaved_rotary=True)
QWEN3 = Family(name="qwen3", architectures=("Qwen3ForCausalLM",), query_key_norm=True)
GEMMA3 = Family(
    name="gemma3",
    architectures=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    query_key_norm=True,
    sandwich_norms=True,
    activation="gelu_tanh",
    scales_embedding=True,
    norm_offset=1.0,
    global_every=6,
    local_rope_base=10_000.0,
)
FAMILIES = {family.name: family for family in (LLAMA, QWEN3, GEMMA3)}
