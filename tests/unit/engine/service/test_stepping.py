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
