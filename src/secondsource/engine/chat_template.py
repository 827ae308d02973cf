"""A model's own chat template, rendered in a sandbox."""

from collections.abc import Mapping, Sequence


class ChatTemplate:
    """A Jinja template from a model's files: a stranger's program, so it runs sandboxed."""

    def __init__(self, source: str, *, beginning: str, end: str) -> None:
        """Compile `source`; `beginning` and `end` are the texts of the model's bos and eos tokens."""
        raise NotImplementedError

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, object] | None = None,
    ) -> str:
        """Return the prompt's text; `continue_final_message` leaves the last message open (as vLLM does).

        Raises InputError where the template refuses the messages or is not a template.
        """
        raise NotImplementedError
