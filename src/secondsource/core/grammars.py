"""The request parameters by which engines take a grammar: facts of their APIs (vLLM, SGLang, llama.cpp, 2026-11)."""

GRAMMARS = (
    "grammar",
    "json_schema",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "regex",
    "ebnf",
    "structural_tag",
)
