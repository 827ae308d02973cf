"""A compiler that answers from a formula, in place of the child process."""

from collections.abc import Callable
from datetime import date

from secondsource.catalog.load import shipped_catalog
from secondsource.port.estimate import Ask
from secondsource.port.job import Answer, Assigned, Compiled, Depth, Fault, Job, Program
from secondsource.port.measuring import Setup
from secondsource.port.models import find_model
from secondsource.port.placing import stored_bytes
from secondsource.port.targets import find_chip
from secondsource.port.timeline import Spent, Walked

CATALOG = shipped_catalog(date.max)


def silent(_: str) -> None:
    """Say nothing."""


class FakeCompiler:
    """Takes `layer_s` a layer and sequence, and `temporaries_bytes` beside the arguments; counts its jobs."""

    def __init__(
        self,
        layer_s: float = 1e-5,
        temporaries_bytes: int = 10_000_000,
        fault: Fault | None = None,
        ends: bool = True,  # whether layers can be told apart
        assigns: bool = False,  # whether it says what memory it assigns before it is done
    ) -> None:
        self.jobs: list[Job] = []
        self.layer_s = layer_s
        self.temporaries_bytes = temporaries_bytes
        self.fault = fault
        self.ends = ends
        self.assigns = assigns

    def __call__(self, job: Job, seconds: float, say: Callable[[str], None]) -> Answer:
        self.jobs.append(job)
        if self.fault is not None:
            return Answer((), self.fault)
        say("compiling")
        deepest = slice(-1, None) if self.assigns else slice(None)  # of a decode step; a prefill needs a line
        return Answer(
            tuple(
                self._compiled(job, program, depth)
                for program, depths in job.programs
                for depth in depths.compiled[deepest if program.step == "decode" else slice(None)]
            ),
            assigned=tuple(
                Assigned(program=program, depth=depth, temporaries_bytes=self._assigned(1.0, depth))
                for program, depths in job.programs
                for depth in depths.assigned
                if self.assigns or not depths.compiled
            ),
        )

    def _assigned(self, filled: float, depth: Depth) -> int:
        if self.assigns:
            return 10 * depth.layers
        return round(self.temporaries_bytes * filled) + depth.layers

    def _compiled(self, job: Job, program: Program, depth: Depth) -> Compiled:
        filled = (program.filled_tokens or program.context_tokens) / program.context_tokens
        layer_s = self.layer_s * (program.sequences * filled if program.step == "decode" else 10)
        ends = [1e-4]
        for number in range(depth.layers):
            ends.append(ends[-1] + (layer_s / 2 if number < depth.local else layer_s))
        return Compiled(
            program=program,
            depth=depth,
            seconds=2.0 + depth.layers,
            arguments_bytes=1000 * depth.layers,
            layer_bytes=(1000,) * depth.layers,
            temporaries_bytes=round(self.temporaries_bytes * filled) + depth.layers,
            assigned_bytes=self._assigned(filled, depth),
            outputs_bytes=0,
            code_bytes=100 * depth.layers if self.assigns else 0,
            walked=Walked(
                seconds=ends[-1],
                cores_s=ends[-1],
                memory_s=0.0,
                links_s=0.0,
                operations=depth.layers,
                layers=tuple(_spent(end, number) for number, end in enumerate(ends[1:], 1)) if self.ends else (),
            ),
        )


def _spent(seconds: float, operations: int) -> Spent:
    return Spent(seconds=seconds, cores_s=seconds, memory_s=0.0, links_s=0.0, operations=operations)


def ask(model: str = "llama-3.1-8b", chip: str = "tpu-v6e", **more: object) -> Ask:
    fields: dict[str, object] = {"model": find_model(model), "chip": find_chip(CATALOG, chip), **more}
    return Ask(**fields)  # type: ignore[arg-type]


def held(setup: Setup) -> int:
    return sum(stored_bytes(setup.config, setup.weights, setup.batch, setup.context_tokens, setup.placing))
