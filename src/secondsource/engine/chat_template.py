"""A model's own chat template, rendered in a sandbox."""

import datetime
import json
from collections.abc import Mapping, Sequence

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from secondsource.core.errors import InputError

_MARK = "\ue000goes on here\ue001"  # private characters: in no template, and in no honest message


class ChatTemplate:
    """A Jinja template from a model's files: a stranger's program, so it runs sandboxed."""

    def __init__(self, source: str, *, beginning: str, end: str) -> None:
        """Compile `source`; `beginning` and `end` are the texts of the model's bos and eos tokens.

        Raises InputError when it is no template.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json  # Jinja's own escapes for HTML, and a model would read that
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = _now
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise InputError(f"the model's chat template cannot be read: {error}") from error
        self._tokens = {"bos_token": beginning, "eos_token": end}

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

        Raises InputError where the template refuses the messages.
        """
        shown = [*messages[:-1], _marked(messages)] if continue_final_message else list(messages)
        given = {
            **(variables or {}),
            **self._tokens,
            "messages": shown,
            "tools": None if tools is None else list(tools),
            "add_generation_prompt": add_generation_prompt and not continue_final_message,
        }
        try:
            text = self._template.render(given)
        # A template is a program: whatever it trips over in these messages is an answer about them.
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise InputError(f"the model's chat template refuses these messages: {error}") from error
        return _left_open(text, str(messages[-1]["content"])) if continue_final_message else text


def _marked(messages: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Return the last message with a mark as its content: templates trim, and an empty content is nowhere."""
    if not messages or not isinstance(messages[-1].get("content"), str):
        raise InputError("continue_final_message needs a last message whose content is a text")
    return {**messages[-1], "content": _MARK}


def _left_open(text: str, content: str) -> str:
    """Return `text` up to the mark, and there the last message's content as it is."""
    before, found, _ = text.rpartition(_MARK)
    if not found:
        raise InputError("the model's chat template does not write the last message's content; it cannot go on")
    return before + content


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> str:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.datetime.now(tz=datetime.UTC).strftime(form)
