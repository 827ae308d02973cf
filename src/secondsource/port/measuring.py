"""From compiled programs to one step of the whole model: memory per device, seconds, the verdict.

A decoder's layers are alike, so a program is compiled with a few of them. A decode step's walk says when each
layer ends, and the layers between the first and the last are those that a deeper program has more of. Arguments follow
from the shapes, temporaries from what the compiler says it assigns at other depths. The time of a prefill, and memory
where the compiler does not say, are carried on in a straight line from two depths. `whole` compiles every layer.
"""

import math
from collections.abc import Callable, Sequence

import msgspec

from secondsource.engine.config import ModelConfig
from secondsource.port.carrying import carry_layers_on, carry_on, depths_of, line_of, memory_alone
from secondsource.port.compiling import run_compile
from secondsource.port.job import Answer, Assigned, CacheDtype, Compiled, Depths, Fault, Job, Program, Step, Weights
from secondsource.port.placing import Placing, stored_bytes
from secondsource.port.targets import Target

_LANES = 128  # of a TPU's vector unit
Run = Callable[[Job, float, Callable[[str], None]], Answer]


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """A model on so many chips, and how it is to be run there."""

    config: ModelConfig
    weights: Weights
    cache: CacheDtype = "bf16"
    target: Target
    placing: Placing
    batch: int
    context_tokens: int
    filled_tokens: int = 0  # of every slot, at the decode step that is timed; 0: the whole context
    full_slots: bool = True  # whether the decode step with full slots is timed beside one with less in them
    prompt_tokens: int
    chunk_tokens: int
    whole: bool = False
    save_to: str = ""
    seconds: float = 600.0  # that one compile job may take


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the whole model, in seconds; the parts sum to it."""

    seconds: float
    cores_s: float
    memory_s: float
    links_s: float
    operations: int
    unpriced: tuple[str, ...]
    unknown_loops: tuple[str, ...]


class Stepped(msgspec.Struct, frozen=True, kw_only=True):
    """One program carried to the model's depth; bytes of one device. One that was not compiled has no time."""

    step: Step
    filled_tokens: int = 0  # as in `Setup`
    arguments_bytes: int
    temporaries_bytes: int  # with outputs and code; of slots filled in part, those of the layers compiled
    compile_s: float  # of processor time, likewise
    timed: Timed | None  # None: the compiler gives no cycles


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the compiler made of a setup."""

    setup: Setup
    weights_bytes: int
    cache_bytes: int
    steps: tuple[Stepped, ...]
    fault: Fault | None

    def step(self, wanted: Step) -> Stepped | None:
        """Return one of the steps, where it compiled.

        Of decode steps it is the quicker one: the program for full slots serves slots filled in part as well, and is
        the quicker where cutting the cache to what is filled costs a copy of it.
        """
        found = [step for step in self.steps if step.step == wanted]
        return min(found, key=lambda step: step.timed.seconds if step.timed else math.inf, default=None)

    @property
    def full_decode(self) -> Stepped | None:
        """The decode step with full slots, where it compiled."""
        return next((step for step in self.steps if step.step == "decode" and not step.filled_tokens), None)

    @property
    def temporaries_bytes(self) -> int:
        """What the hungriest step with full slots needs beside its arguments."""
        return max((step.temporaries_bytes for step in self.steps if not step.filled_tokens), default=0)

    @property
    def padding_bytes(self) -> int:
        """What the compiler's layouts add to weights and cache."""
        held = self.weights_bytes + self.cache_bytes
        return max(0, *(step.arguments_bytes - held for step in self.steps), 0)

    @property
    def compiles(self) -> bool | None:
        """Whether every operation compiles; None where the compiler gave no answer."""
        if self.fault is None or self.fault.kind == "memory":
            return True
        return False if self.fault.kind == "refused" else None

    @property
    def fits(self) -> bool:
        """Whether weights, cache and temporaries go into a device's memory."""
        held = self.weights_bytes + self.cache_bytes + self.padding_bytes + self.temporaries_bytes
        refused = self.fault is not None and self.fault.kind == "memory"
        return not refused and held <= self.setup.target.memory_bytes_per_device


def measure(setup: Setup, say: Callable[[str], None], steps: Sequence[Step], run: Run = run_compile) -> Measured:
    """Return what the compiler makes of these steps of a setup, in a process of its own."""
    config = setup.config
    weights, cache = stored_bytes(config, setup.weights, setup.batch, setup.context_tokens, setup.placing, setup.cache)
    job = Job(
        config=config,
        weights=setup.weights,
        cache=setup.cache,
        target=setup.target,
        data_parallel=setup.placing.data_parallel,
        programs=_programs(setup, steps),
        save_to=setup.save_to,
    )
    answer = run(job, setup.seconds, say)
    found = _steps(answer, job.programs, config)
    return Measured(setup=setup, weights_bytes=weights, cache_bytes=cache, steps=found, fault=answer.fault)


def _steps(answer: Answer, wanted: Sequence[tuple[Program, Depths]], config: ModelConfig) -> tuple[Stepped, ...]:
    """Return the programs of which every depth that was needed was looked at."""
    found = []
    too_large = answer.fault is not None and answer.fault.kind == "memory"  # then its time is told all the same
    for program, depths in wanted:
        own = sorted((each for each in answer.compiled if each.program == program), key=lambda each: each.depth.layers)
        assigned = [each for each in answer.assigned if each.program == program]
        if not depths.compiled:
            like = [each for each in answer.compiled if each.program.step == program.step]
            if like and len(assigned) == len(depths.assigned):
                found.append(_assigned_alone(program, like[0], assigned, config))
        elif own and (len(own) >= len(depths.compiled) or assigned or too_large):
            found.append(_stepped(own[-1], own[-2] if len(own) > 1 else None, assigned, config))
    return tuple(found)


def _programs(setup: Setup, steps: Sequence[Step]) -> tuple[tuple[Program, Depths], ...]:
    """Return what is to be compiled: steps with full slots, and for its time a decode step with slots partly filled.

    Beside that one, full slots are wanted for their memory; their time is another program's code, and asked for. A head
    narrower than a chip's lanes is laid out with its positions along them, and cutting these costs a copy of the cache:
    there the step with full slots is the quicker one, and serves slots filled in part as well.
    """
    whole = setup.whole or bool(setup.save_to)
    partly = bool(setup.filled_tokens and "decode" in steps and setup.target.cycles_per_s)
    partly = partly and (setup.full_slots or setup.config.head_width >= _LANES)
    found = []
    for step in steps:
        program = _program(setup, step, 0)
        depths = depths_of(setup.config, program, whole=whole)
        alone = partly and step == "decode" and not (setup.full_slots or whole)
        found.append((program, memory_alone(depths) if alone else depths))
    if partly:
        filled = _program(setup, "decode", setup.filled_tokens)
        found.append((filled, depths_of(setup.config, filled, whole=whole)))
    return tuple(found)


def _program(setup: Setup, step: Step, filled_tokens: int) -> Program:
    decode = step == "decode"
    return Program(
        step=step,
        sequences=setup.batch,
        context_tokens=setup.context_tokens,
        filled_tokens=filled_tokens if decode else 0,
        chunk_tokens=0 if decode else setup.chunk_tokens,
        prompt_tokens=0 if decode else setup.prompt_tokens,
    )


def _assigned_alone(program: Program, like: Compiled, assigned: Sequence[Assigned], config: ModelConfig) -> Stepped:
    """Return a step of which only memory was asked, beside one of the same arguments that was compiled."""
    *shallow, deep = sorted(assigned, key=lambda each: each.depth.layers)
    temporaries: float = deep.temporaries_bytes
    if shallow:
        depths = (shallow[-1].depth, deep.depth)
        temporaries = carry_on(shallow[-1].temporaries_bytes, temporaries, depths, config)
    rest = _extra(like) - (like.assigned_bytes or 0) + _more_code(like, config)
    return Stepped(
        step=program.step,
        filled_tokens=program.filled_tokens,
        arguments_bytes=_arguments(like, config),
        temporaries_bytes=round(temporaries + rest),
        compile_s=like.seconds,
        timed=None,
    )


def _stepped(
    compiled: Compiled, shallow: Compiled | None, assigned: Sequence[Assigned], config: ModelConfig
) -> Stepped:
    temporaries: float = _extra(compiled)
    if assigned:
        temporaries += _more_assigned(compiled, assigned[-1], config) + _more_code(compiled, config)
    elif shallow is not None:
        temporaries = carry_on(_extra(shallow), temporaries, (shallow.depth, compiled.depth), config)
    return Stepped(
        step=compiled.program.step,
        filled_tokens=compiled.program.filled_tokens,
        arguments_bytes=_arguments(compiled, config),
        temporaries_bytes=round(temporaries),
        compile_s=compiled.seconds,
        timed=_timed(compiled, shallow, config),
    )


def _more_assigned(compiled: Compiled, assigned: Assigned, config: ModelConfig) -> float:
    """Return what the model's other layers add to temporaries: asked of every layer, or on a line from two depths."""
    had = compiled.assigned_bytes or 0
    if assigned.depth.layers == config.layers:
        return max(0, assigned.temporaries_bytes - had)
    return carry_on(assigned.temporaries_bytes, had, (assigned.depth, compiled.depth), config) - had


def _more_code(compiled: Compiled, config: ModelConfig) -> float:
    """Return what the model's other layers add to the code at most: a part of it is no layer's, and they share some."""
    return compiled.code_bytes * (config.layers / compiled.depth.layers - 1)


def _arguments(compiled: Compiled, config: ModelConfig) -> int:
    """Return what weights and cache of all layers take: the compiled ones', and as much for each more of a kind."""
    depth, held = compiled.depth, compiled.layer_bytes
    if len(held) != depth.layers:
        return round(compiled.arguments_bytes * config.layers / depth.layers)
    local = len(config.local_layers)
    more = (local - depth.local) * held[0] + (config.layers - local - depth.full) * held[-1]
    return compiled.arguments_bytes + more


def _timed(compiled: Compiled, shallow: Compiled | None, config: ModelConfig) -> Timed | None:
    walked = compiled.walked
    if walked is None:
        return None
    line = None
    if shallow is not None and shallow.walked is not None:
        line = line_of(shallow.walked, walked, (shallow.depth, compiled.depth), config)
    if compiled.program.step == "decode":
        spent = carry_layers_on(walked, compiled.depth, config) or line
    else:
        spent = line or (walked if compiled.depth.layers == config.layers else None)
    if spent is None:
        return None
    return Timed(
        seconds=spent.seconds,
        cores_s=spent.cores_s,
        memory_s=spent.memory_s,
        links_s=spent.links_s,
        operations=spent.operations,
        unpriced=walked.unpriced,
        unknown_loops=walked.unknown_loops,
    )


def _extra(compiled: Compiled) -> int:
    return compiled.temporaries_bytes + compiled.outputs_bytes + compiled.code_bytes
