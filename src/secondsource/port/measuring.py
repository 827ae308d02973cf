"""From compiled programs to one step of the whole model: memory per device, seconds, the verdict.

A decoder's layers are alike, so a program is compiled at two depths (and once more with layers of a second kind, where
the model has one), and each figure is carried on in a straight line to the model's depth; `whole` compiles every layer
instead. docs/port.md says how straight the lines are.
"""

from collections.abc import Callable, Sequence

import msgspec

from secondsource.engine.config import ModelConfig
from secondsource.port.compiling import run_compile
from secondsource.port.job import Answer, CacheDtype, Compiled, Depth, Fault, Job, Program, Step, Weights
from secondsource.port.placing import Placing, stored_bytes
from secondsource.port.targets import Target

_SHALLOW = 8  # models of so many layers or fewer are compiled whole
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
    """One program carried to the model's depth; bytes of one device."""

    step: Step
    filled_tokens: int = 0  # as in `Setup`
    arguments_bytes: int
    temporaries_bytes: int  # with outputs and code
    compile_s: float
    timed: Timed | None  # None: the compiler gives no cycles


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the compiler made of a setup."""

    setup: Setup
    weights_bytes: int
    cache_bytes: int
    steps: tuple[Stepped, ...]
    fault: Fault | None

    def step(self, wanted: Step) -> Stepped | None:
        """Return one of the steps, where it compiled: the decode step with slots as full as the setup says."""
        return next((step for step in self.steps if step.step == wanted), None)

    @property
    def full_decode(self) -> Stepped | None:
        """The decode step with full slots, where it compiled."""
        return next((step for step in self.steps if step.step == "decode" and not step.filled_tokens), None)

    @property
    def temporaries_bytes(self) -> int:
        """What the hungriest step needs beside its arguments."""
        return max((step.temporaries_bytes for step in self.steps), default=0)

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


def depths_of(config: ModelConfig, step: Step, *, whole: bool) -> tuple[Depth, ...]:
    """Return the depths to compile: all layers, or two points on the line of each kind of layer.

    A decode step's first layers have their weights fetched by nothing before them, and nothing is fetched beside its
    last ones: its line begins at 4. From 2 to 4 the lines of some steps fell below what reading the weights takes.
    """
    local = len(config.local_layers)
    full = config.layers - local
    if whole or config.layers <= _SHALLOW or full < 2:
        return (Depth(full, local),)
    first = 4 if step == "decode" else 1
    line = (Depth(first), Depth(2 * first))
    return (*line, Depth(first, first)) if local else line


def carry_on(values: Sequence[float], depths: Sequence[Depth], config: ModelConfig) -> float:
    """Return a figure at the model's depth from its values at some depths, on a straight line for each kind."""
    if len(depths) == 1:
        return values[0]
    local = len(config.local_layers)
    each_full = max(0.0, (values[1] - values[0]) / (depths[1].full - depths[0].full))
    total = values[0] + each_full * (config.layers - local - depths[0].full)
    if local:
        total += max(0.0, (values[2] - values[0]) / depths[2].local) * local
    return total


def measure(setup: Setup, say: Callable[[str], None], steps: Sequence[Step], run: Run = run_compile) -> Measured:
    """Return what the compiler makes of these steps of a setup, in a process of its own."""
    config = setup.config
    whole = setup.whole or bool(setup.save_to)
    job = Job(
        config=config,
        weights=setup.weights,
        cache=setup.cache,
        target=setup.target,
        data_parallel=setup.placing.data_parallel,
        programs=tuple((each, depths_of(config, each.step, whole=whole)) for each in _programs(setup, steps)),
        save_to=setup.save_to,
    )
    weights, cache = stored_bytes(config, setup.weights, setup.batch, setup.context_tokens, setup.placing, setup.cache)
    answer = run(job, setup.seconds, say)
    found = []
    for program, depths in job.programs:
        compiled = [each for each in answer.compiled if each.program == program]
        if len(compiled) == len(depths):
            found.append(_stepped(compiled, depths, config))
    return Measured(setup=setup, weights_bytes=weights, cache_bytes=cache, steps=tuple(found), fault=answer.fault)


def _programs(setup: Setup, steps: Sequence[Step]) -> list[Program]:
    """Return what is to be compiled: beside a decode step with slots filled in part, one with full slots for memory."""
    found = [_program(setup, step, setup.filled_tokens) for step in steps]
    if setup.filled_tokens and "decode" in steps:
        found.append(_program(setup, "decode", 0))
    return found


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


def _stepped(compiled: Sequence[Compiled], depths: Sequence[Depth], config: ModelConfig) -> Stepped:
    def at_depth(figure: Callable[[Compiled], float]) -> float:
        return carry_on([figure(each) for each in compiled], depths, config)

    walked = [each.walked for each in compiled if each.walked is not None]
    timed = None
    if len(walked) == len(compiled):
        parts = [
            carry_on([getattr(each, name) for each in walked], depths, config)
            for name in ("seconds", "cores_s", "memory_s", "links_s", "operations")
        ]
        timed = Timed(
            seconds=parts[0],
            cores_s=parts[1],
            memory_s=parts[2],
            links_s=parts[3],
            operations=round(parts[4]),
            unpriced=tuple(sorted({name for each in walked for name in each.unpriced})),
            unknown_loops=tuple(sorted({name for each in walked for name in each.unknown_loops})),
        )
    extra = at_depth(lambda each: each.temporaries_bytes + each.outputs_bytes + each.code_bytes)
    return Stepped(
        step=compiled[0].program.step,
        filled_tokens=compiled[0].program.filled_tokens,
        arguments_bytes=round(at_depth(lambda each: each.arguments_bytes)),
        temporaries_bytes=round(extra),
        compile_s=at_depth(lambda each: each.seconds),
        timed=timed,
    )
