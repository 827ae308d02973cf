"""A chat template: rendered as transformers renders it, left open, and kept in its sandbox."""

import pytest

from secondsource.core.errors import InputError
from secondsource.engine.chat_template import ChatTemplate

SOURCE = """{% for message in messages %}
<{{ message.role }}>{{ message.content | trim }}{{ eos_token }}
{% endfor %}
{% if tools %}{{ tools | tojson }}{% endif %}
{% if add_generation_prompt %}<assistant>{% endif %}"""
USER, ASSISTANT = {"role": "user", "content": "hi "}, {"role": "assistant", "content": " Well,\n"}


def template(source: str = SOURCE) -> ChatTemplate:
    return ChatTemplate(source, beginning="<s>", end="</s>")


def test_blocks_leave_no_lines_and_the_prompt_opens_an_answer() -> None:
    assert template().render([USER]) == "<user>hi</s>\n<assistant>"
    assert template().render([USER], add_generation_prompt=False) == "<user>hi</s>\n"


def test_tools_are_json_with_no_escapes_for_html() -> None:
    assert '[{"name": "a<b>é"}]' in template().render([USER], tools=[{"name": "a<b>é"}])


@pytest.mark.parametrize("content", ["", " Well,\n", "</s>"])
def test_a_last_message_is_left_open_as_it_is(content: str) -> None:
    messages = [USER, ASSISTANT | {"content": content}]
    assert template().render(messages, continue_final_message=True) == f"<user>hi</s>\n<assistant>{content}"


@pytest.mark.parametrize(
    ("source", "messages"),
    [
        ("{{ raise_exception('no system role') }}", [USER]),
        ("{{ messages[0].content.__class__.__mro__ }}", [USER]),
        ("{{ messages.append(1) }}", [USER]),
        ("{{ messages[7].content.x }}", [USER]),
    ],
)
def test_what_a_template_refuses_or_may_not_do_is_an_input_error(source: str, messages: list[dict[str, str]]) -> None:
    with pytest.raises(InputError, match="refuses"):
        template(source).render(messages)


def test_nothing_can_go_on_where_no_text_is_last_or_the_template_drops_it() -> None:
    with pytest.raises(InputError, match="needs a last message"):
        template().render([], continue_final_message=True)
    with pytest.raises(InputError, match="cannot go on"):
        template("fixed").render([USER], continue_final_message=True)


def test_a_broken_template_is_told_so() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        template("{% for %}")
