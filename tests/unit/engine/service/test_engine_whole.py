"""Scheduler, runner and sampler together on tiny random models: whatever goes on beside it, an answer is the same."""

import functools

import pytest

from secondsource.engine.runner import Runner, RunnerOptions
from secondsource.engine.service.jobs import Job, Sampling
from secondsource.engine.service.stepping import Stepper
from tests.unit.engine.tiny import tiny_model

SLOTS, TOKENS = 3, 10
OPTIONS = RunnerOptions(slots=SLOTS, context_buckets=(16, 64), prefill_buckets=(4, 16))
GREEDY = Sampling(temperature=0.0)
DRAWN = Sampling(temperature=1.5, top_p=0.95, seed=21)
PENALISED = Sampling(temperature=0.0, repetition_penalty=1.5, frequency_penalty=0.5)
PROMPTS = ((3, 1, 4, 1, 5), (9, 2), tuple(range(20, 40)), (6,), (2, 6, 4, 3, 3, 8, 3))


@functools.cache  # compiling is what takes time here
def runner() -> Runner:
    return Runner(*tiny_model("llama"), OPTIONS)


def engine(chunk: int = 16) -> Stepper:
    return Stepper(runner(), slots=SLOTS, vocabulary=tiny_model("llama")[0].vocabulary, chunk_tokens=chunk)


def job(prompt: tuple[int, ...], sampling: Sampling, most: int = TOKENS) -> Job:
    return Job(prompt=prompt, most_tokens=most, sampling=sampling)


def run(stepper: Stepper, answers: dict[int, list[int]]) -> None:
    while stepper.load.running or stepper.load.waiting:
        for made in stepper.step():
            answers.setdefault(made.request, []).append(made.token)


def alone(prompt: tuple[int, ...], sampling: Sampling, most: int = TOKENS) -> list[int]:
    stepper, answers = engine(), {}
    stepper.submit(0, job(prompt, sampling, most))
    run(stepper, answers)
    return answers[0]


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN, PENALISED], ids=["greedy", "drawn", "penalised"])
def test_batched_queued_and_chunked_as_alone(sampling: Sampling) -> None:
    expected = {number: alone(prompt, sampling) for number, prompt in enumerate(PROMPTS)}
    assert len(set(map(tuple, expected.values()))) == len(PROMPTS), "else sameness would say nothing"
    stepper, answers = engine(chunk=3), dict[int, list[int]]()
    for number, prompt in enumerate(PROMPTS):  # more than there are slots
        stepper.submit(number, job(prompt, sampling))
    run(stepper, answers)
    assert answers == expected


def test_a_neighbour_that_is_cancelled_changes_nothing_and_its_slot_is_clean() -> None:
    expected = {number: alone(PROMPTS[number], GREEDY) for number in (0, 1, 3)}
    stepper, answers = engine(chunk=4), dict[int, list[int]]()
    stepper.submit(0, job(PROMPTS[0], GREEDY))
    stepper.submit(2, job(PROMPTS[2], DRAWN, most=40))
    for _ in range(9):
        for made in stepper.step():
            answers.setdefault(made.request, []).append(made.token)
    stepper.cancel(2)
    answers.pop(2, None)
    stepper.submit(1, job(PROMPTS[1], GREEDY))
    stepper.submit(3, job(PROMPTS[3], GREEDY))
    run(stepper, answers)
    assert answers == expected


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_an_answer_resumed_by_its_tokens_goes_on_as_if_never_cut(sampling: Sampling) -> None:
    whole = alone(PROMPTS[0], sampling)
    for cut in (1, 4, 9):
        assert whole[:cut] + alone((*PROMPTS[0], *whole[:cut]), sampling, TOKENS - cut) == whole


def test_serving_compiles_nothing_once_warm() -> None:
    runner().warm_up()
    warm = runner().compilations
    alone(PROMPTS[2], DRAWN, most=30)
    assert runner().compilations == warm
