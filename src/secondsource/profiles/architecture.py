"""What a model is made of: the numbers of its architecture, and what follows from them.

All counts are of parameters or of elements unless the name says bytes. The numbers are typed in
`data/models.toml`, each model with the source it was read from.
"""

import msgspec


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One decoder-only transformer; a field left at 0 means that the model has no such part."""

    name: str
    aliases: tuple[str, ...] = ()
    source: str
    as_of: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int = 0  # width of a dense layer's gated feed-forward
    vocabulary: int
    tied_embeddings: bool = False
    context_tokens: int
    dense_layers: int = 0  # leading layers without experts, in a model with experts
    experts: int = 0
    experts_per_token: int = 0
    expert_feed_forward: int = 0
    shared_feed_forward: int = 0  # of the experts that every token passes
    kv_rank: int = 0  # multi-head latent attention: DeepSeek-V2, arXiv:2405.04434, section 2.1
    q_rank: int = 0
    rope_dim: int = 0
    value_dim: int = 0
    window_tokens: int = 0  # sliding-window attention ...
    window_layers: int = 0  # ... in this many of the layers
    linear_layers: int = 0  # layers whose state does not grow with the context
    linear_key_width: int = 0
    linear_value_width: int = 0
    sparse_top_tokens: int = 0  # attention reads at most this many tokens, chosen by an indexer
    native_precision: str = ""  # the format it is published in, where that is narrower than 8 bits

    @property
    def latent(self) -> bool:
        """Whether attention keeps one compressed vector per token instead of keys and values by head."""
        return self.kv_rank > 0

    @property
    def expert_layers(self) -> int:
        """Layers with routed experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def softmax_layers(self) -> int:
        """Layers whose cache grows with the context."""
        return self.layers - self.linear_layers

    @property
    def attention_parameters(self) -> int:
        """Parameters of all attention layers, softmax and linear."""
        return self.softmax_layers * self._softmax_layer() + self.linear_layers * self._linear_layer()

    def _softmax_layer(self) -> int:
        if self.latent:
            query = (self.hidden + self.heads * self.head_dim) * self.q_rank
            keys = self.hidden * (self.kv_rank + self.rope_dim)
            up = self.kv_rank * self.heads * (self.head_dim - self.rope_dim + self.value_dim)
            return query + keys + up + self.heads * self.value_dim * self.hidden
        return self.hidden * self.head_dim * 2 * (self.heads + self.kv_heads)

    def _linear_layer(self) -> int:
        return self.hidden * (2 * self.linear_key_width + 3 * self.linear_value_width)

    @property
    def dense_parameters(self) -> int:
        """Parameters of dense feed-forwards, shared experts and routers: what every token passes."""
        plain = self.dense_layers if self.experts else self.layers
        every_token = 3 * self.hidden * self.shared_feed_forward + self.hidden * self.experts
        return plain * 3 * self.hidden * self.feed_forward + self.expert_layers * every_token

    @property
    def expert_parameters(self) -> int:
        """Parameters of one routed expert in one layer."""
        return 3 * self.hidden * self.expert_feed_forward

    @property
    def head_parameters(self) -> int:
        """Parameters of the output layer over the vocabulary."""
        return self.hidden * self.vocabulary

    @property
    def parameters(self) -> int:
        """All parameters, without norms and biases."""
        embeddings = self.head_parameters * (1 if self.tied_embeddings else 2)
        routed = self.expert_layers * self.experts * self.expert_parameters
        return self.attention_parameters + self.dense_parameters + routed + embeddings

    @property
    def cache_elements_per_token(self) -> int:
        """Elements cached per token in one layer whose cache grows with the context."""
        return self.kv_rank + self.rope_dim if self.latent else 2 * self.kv_heads * self.head_dim

    def cache_elements(self, context_tokens: float) -> float:
        """Return the elements one sequence keeps in memory at this context length."""
        full = self.softmax_layers - self.window_layers
        inside = min(context_tokens, self.window_tokens)
        state = self.linear_layers * self.linear_value_width * self._state_width
        per_token = self.cache_elements_per_token
        return per_token * (full * context_tokens + self.window_layers * inside) + state

    def cache_elements_read(self, context_tokens: float) -> float:
        """Return the elements one decode step reads for one sequence; less than kept where sparse."""
        if not self.sparse_top_tokens:
            return self.cache_elements(context_tokens)
        return self.cache_elements(min(context_tokens, self.sparse_top_tokens))

    @property
    def _state_width(self) -> int:
        """Elements of a linear layer's state per element of its value width: one key head's width."""
        return 128 if self.linear_layers else 0

    def attention_flops(self, query_tokens: float, context_tokens: float, *, prefill: bool) -> float:
        """Return the floating-point operations of scores and mixing, without the projections.

        Two operations (multiply, add) per head, pair of tokens and dimension. Latent attention works in
        the compressed space during decode (absorbed weights), on whole heads during prefill.
        """
        full = self.softmax_layers - self.window_layers
        seen = min(context_tokens, self.sparse_top_tokens) if self.sparse_top_tokens else context_tokens
        pairs = query_tokens * (full * seen + self.window_layers * min(seen, self.window_tokens))
        if self.latent:
            width = self.head_dim + self.value_dim if prefill else 2 * self.kv_rank + self.rope_dim
        else:
            width = 2 * self.head_dim
        return 2.0 * self.heads * width * pairs
