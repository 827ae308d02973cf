"""Alone, batched, chunked, cancelled, resumed: an answer's tokens are the same."""

import numpy as np
import pytest

from secondsource.engine.service.jobs import Job, Made, Sampling
from secondsource.engine.service.stepping import Stepper
from tests.unit.engine.service.remembering_runner import VOCABULARY, RememberingRunner, logits_after

GREEDY = Sampling(temperature=0.0)
ROUGH = Sampling(temperature=1.3, top_k=20, top_p=0.9, seed=99)
PENALISED = Sampling(
    temperature=0.8, seed=5, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2, bias=((7, 1.5),)
)
PROMPTS = ((1, 2, 3), (9,), tuple(range(10, 21)), (4, 4, 4, 4, 4))


def stepper(*, slots: int = 4, chunk: int = 8) -> Stepper:
    return Stepper(RememberingRunner(slots), slots=slots, vocabulary=VOCABULARY, chunk_tokens=chunk)


def job(prompt: tuple[int, ...], sampling: Sampling, most: int = 12, ends: frozenset[int] = frozenset()) -> Job:
    return Job(prompt=prompt, most_tokens=most, ends=ends, sampling=sampling)


def finish(engine: Stepper) -> dict[int, list[Made]]:
    answers: dict[int, list[Made]] = {}
    while engine.load.running or engine.load.waiting:
        for made in engine.step():
            answers.setdefault(made.request, []).append(made)
    return answers


def tokens_of(made: list[Made]) -> list[int]:
    return [one.token for one in made]


def alone(one: Job) -> list[int]:
    engine = stepper(slots=1, chunk=100)
    engine.submit(0, one)
    return tokens_of(finish(engine)[0])


def test_the_likeliest_token_follows_what_was_read() -> None:
    history = [1, 2, 3]
    for token in alone(job((1, 2, 3), GREEDY)):
        assert token == logits_after(history).argmax()
        history.append(token)


@pytest.mark.parametrize("sampling", [GREEDY, ROUGH, PENALISED], ids=["greedy", "rough", "penalised"])
@pytest.mark.parametrize("chunk", [2, 8])
def test_batched_and_chunked_as_alone(sampling: Sampling, chunk: int) -> None:
    engine = stepper(slots=3, chunk=chunk)
    jobs = {number: job(prompt, sampling, most=6 + number) for number, prompt in enumerate(PROMPTS)}
    for number, one in jobs.items():
        engine.submit(number, one)
        engine.step()  # so that they start one after another, and the last waits for a slot
    answers = finish(engine)
    # The steps above made tokens too: what is left must be the end of the whole.
    for number, one in jobs.items():
        whole = alone(one)
        assert whole[-len(answers[number]) :] == tokens_of(answers[number])
        assert len(whole) == one.most_tokens


def test_rows_of_all_kinds_in_one_batch_as_alone() -> None:
    engine = stepper(slots=4)
    kinds = (GREEDY, ROUGH, PENALISED, Sampling(temperature=1.0, min_p=0.1, seed=3))
    jobs = [job(prompt, sampling) for prompt, sampling in zip(PROMPTS, kinds, strict=True)]
    for number, one in enumerate(jobs):
        engine.submit(number, one)
    answers = finish(engine)
    assert [tokens_of(answers[number]) for number in range(4)] == [alone(one) for one in jobs]


def test_a_cancelled_answer_leaves_its_slot_to_the_next_and_no_trace() -> None:
    engine = stepper(slots=1, chunk=4)
    engine.submit(1, job(PROMPTS[2], PENALISED))
    for _ in range(5):
        engine.step()
    engine.submit(2, job(PROMPTS[0], GREEDY))
    engine.submit(3, job(PROMPTS[1], GREEDY))
    engine.cancel(3)  # still waiting
    engine.cancel(1)
    answers = finish(engine)
    assert list(answers) == [2]
    assert tokens_of(answers[2]) == alone(job(PROMPTS[0], GREEDY))
    assert engine.tokens_held == 0


@pytest.mark.parametrize("sampling", [GREEDY, ROUGH], ids=["greedy", "rough"])
def test_an_answer_resumed_by_its_tokens_goes_on_as_if_never_cut(sampling: Sampling) -> None:
    whole = alone(job(PROMPTS[0], sampling))
    for cut in (1, 5, 11):
        rest = alone(job((*PROMPTS[0], *whole[:cut]), sampling, most=12 - cut))
        assert whole[:cut] + rest == whole


def test_an_end_token_ends_the_answer_and_frees_the_slot() -> None:
    whole = alone(job(PROMPTS[0], GREEDY))
    end = whole[4]
    first = whole.index(end)
    engine = stepper()
    engine.submit(5, job(PROMPTS[0], GREEDY, ends=frozenset({end})))
    made = finish(engine)[5]
    assert tokens_of(made) == whole[: first + 1]
    assert [one.finish for one in made] == [None] * first + ["stop"]
    assert engine.load.running == 0


def test_logprobs_are_told_to_who_wants_them_only() -> None:
    engine = stepper(slots=2)
    engine.submit(0, job((5, 6), GREEDY, most=3))
    engine.submit(1, job((5, 6), Sampling(temperature=0.0, logprobs=True), most=3))
    answers = finish(engine)
    assert all(one.top == () for one in answers[0])
    history = [5, 6]
    for one in answers[1]:
        logits = logits_after(history)
        logprobs = logits - np.log(np.exp(logits).sum())
        assert one.logprob == pytest.approx(logprobs[one.token], abs=1e-5)
        assert one.top[0] == (one.token, pytest.approx(one.logprob, abs=1e-6))
        assert len(one.top) == 20
        history.append(one.token)


def test_everything_is_compiled_before_the_first_request() -> None:
    engine = stepper(slots=5)  # a number that no other test uses: compiled functions are shared
    engine.warm_up()
    compiled = [function._cache_size() for function in vars(engine).values() if hasattr(function, "_cache_size")]
    for number, sampling in enumerate((GREEDY, ROUGH, PENALISED)):
        engine.submit(number, job(PROMPTS[number], sampling))
    finish(engine)
    assert compiled
    again = [function._cache_size() for function in vars(engine).values() if hasattr(function, "_cache_size")]
    assert again == compiled


def test_the_device_has_its_next_step_before_the_last_ones_token_is_told_and_no_more_than_that() -> None:
    runner = RememberingRunner(2)
    engine = Stepper(runner, slots=2, vocabulary=VOCABULARY, chunk_tokens=4)
    engine.submit(0, job(PROMPTS[0], GREEDY, most=6))
    assert engine.step() == []  # the prompt is being read
    told = 0
    while engine.load.running:
        told += len(engine.step())
        read = len(runner.held[0]) - len(PROMPTS[0])
        assert read == min(told, 5)  # the token that was told last is being read; the answer's last never is
    assert told == 6


def test_a_long_prompt_is_given_to_the_device_a_chunk_at_a_time() -> None:
    runner = RememberingRunner(1)
    engine = Stepper(runner, slots=1, vocabulary=VOCABULARY, chunk_tokens=2)
    engine.submit(0, job(PROMPTS[2], GREEDY))
    for chunks in (1, 2, 3):
        engine.step()
        assert len(runner.chunks) == chunks
    engine.cancel(0)
    assert engine.step() == []
    assert len(runner.chunks) == 3


@pytest.mark.parametrize("sampling", [GREEDY, PENALISED], ids=["greedy", "penalised"])
def test_what_was_made_ahead_of_an_end_is_thrown_away_and_leaves_no_trace(sampling: Sampling) -> None:
    whole = alone(job(PROMPTS[0], sampling))
    end = next(token for number, token in enumerate(whole) if number >= 3 and token not in whole[:number])
    runner = RememberingRunner(1)
    engine = Stepper(runner, slots=1, vocabulary=VOCABULARY, chunk_tokens=8)
    engine.submit(0, job(PROMPTS[0], sampling, ends=frozenset({end})))
    engine.submit(1, job(PROMPTS[3], sampling))  # takes the slot after it
    made = [one for _ in range(40) for one in engine.step()]
    assert tokens_of([one for one in made if one.request == 0]) == whole[: whole.index(end) + 1]
    assert tokens_of([one for one in made if one.request == 1]) == alone(job(PROMPTS[3], sampling))
    assert engine.load.running == 0


def test_nothing_of_a_cancelled_answer_is_told_though_its_step_is_under_way() -> None:
    engine = stepper(slots=2)
    engine.submit(0, job(PROMPTS[0], ROUGH))
    engine.submit(1, job(PROMPTS[1], ROUGH))
    before = [one for _ in range(6) for one in engine.step()]
    assert {one.request for one in before} == {0, 1}
    engine.cancel(0)
    assert engine.load.running == 1
    after = [one for _ in range(30) for one in engine.step()]
    assert {one.request for one in after} == {1}
    assert tokens_of([one for one in (*before, *after) if one.request == 1]) == alone(job(PROMPTS[1], ROUGH))


def test_an_answer_of_one_token_ends_with_its_prompt() -> None:
    engine = stepper(slots=1)
    for number in range(3):
        engine.submit(number, job(PROMPTS[number], GREEDY, most=1))
    assert {number: tokens_of(made) for number, made in finish(engine).items()} == {
        number: alone(job(PROMPTS[number], GREEDY, most=1)) for number in range(3)
    }
