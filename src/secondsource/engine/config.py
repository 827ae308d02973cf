"""The numbers of one dense decoder-only model, as the decoder needs them."""

import msgspec


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One dense decoder-only transformer; hashable, so that a compiled function may be keyed by it.

    Widths and counts are of elements; `context_tokens` is what the model was trained for. Made by
    `config_gguf` or `config_huggingface`.
    """

    family: str  # a key of families.FAMILIES
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    feed_forward_width: int
    vocabulary: int
    context_tokens: int
    norm_epsilon: float
    rope_base: float
    rope_divisors: tuple[float, ...] = ()  # one per frequency of the global layers; empty: no scaling
    tied_embeddings: bool = False  # the output layer is the embedding table
    query_key_norm: bool = False  # RMS norm of each head's query and key before rotation
    sandwich_norms: bool = False  # an RMS norm also after attention and after the feed-forward
    activation: str = "silu"  # silu | gelu_tanh
    embedding_scale: float = 1.0
    query_scale: float = 0.0  # what query times key is multiplied by; 0: head_width ** -0.5
    window_tokens: int = 0  # how far back a local layer looks, its own token included
    local_layers: tuple[int, ...] = ()  # the layers that look back `window_tokens` only
    local_rope_base: float = 0.0
    attention_soft_cap: float = 0.0  # 0: none
    logit_soft_cap: float = 0.0

    @property
    def group(self) -> int:
        """Query heads that share one key and value head."""
        return self.heads // self.kv_heads
