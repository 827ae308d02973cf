"""What a compile is asked for and what it answers: the records that pass to the child process and back."""

from typing import Literal

import msgspec

from secondsource.engine.config import ModelConfig
from secondsource.port.targets import Target
from secondsource.port.timeline import Walked

Weights = Literal["bf16", "int8"]
Step = Literal["decode", "prefill"]
CacheDtype = Literal["bf16", "int8"]


class Depth(msgspec.Struct, frozen=True, order=True):
    """How many layers of each kind a compiled program has."""

    full: int  # layers that look back over the whole context
    local: int = 0  # layers that look back over a window

    @property
    def layers(self) -> int:
        """All of them."""
        return self.full + self.local


class Depths(msgspec.Struct, frozen=True):
    """At which depths a program is looked at: the deepest is compiled, the others where they are needed for a line."""

    compiled: tuple[Depth, ...]  # ascending; (): another program of the step is compiled, this is wanted for its memory
    assigned: tuple[Depth, ...] = ()  # where the compiler is asked for memory alone, if it says that before it is done


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a model beside a cache of `sequences` slots of `context_tokens` each.

    A decode step reads a token in every slot and looks back over `filled_tokens` of it (0: over the whole slot); a
    prefill step reads `chunk_tokens` of one slot's prompt.
    """

    step: Step
    sequences: int
    context_tokens: int
    filled_tokens: int = 0
    chunk_tokens: int = 0
    prompt_tokens: int = 0  # how far back a chunk looks: the whole prompt


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What one child process compiles."""

    config: ModelConfig
    weights: Weights
    cache: CacheDtype = "bf16"
    target: Target
    data_parallel: int
    programs: tuple[tuple[Program, Depths], ...]
    save_to: str = ""  # directory for the compiled programs
    keep_text_in: str = ""  # directory for the compiler's text


class Compiled(msgspec.Struct, frozen=True, kw_only=True):
    """One program at one depth, through the compiler; bytes are of one device."""

    program: Program
    depth: Depth
    seconds: float  # of processor time that lowering and compiling took
    arguments_bytes: int  # weights, cache and the step's small inputs, as the compiler lays them out
    layer_bytes: tuple[int, ...] = ()  # of these, each layer's
    temporaries_bytes: int
    assigned_bytes: int | None = None  # temporaries by the compiler's assignment of buffers; None: not looked at
    outputs_bytes: int  # that are not written over an argument
    code_bytes: int
    flops: float = 0.0
    walked: Walked | None = None  # None: this compiler gives no cycles


class Assigned(msgspec.Struct, frozen=True, kw_only=True, tag="assigned"):
    """What the temporaries of a program at a depth take on one device, by the compiler's assignment of buffers."""

    program: Program
    depth: Depth
    temporaries_bytes: int


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag="fault"):
    """Why a program did not compile."""

    kind: Literal["refused", "memory", "crashed", "time"]
    program: Program | None
    message: str  # the compiler's own, shortened
    where: str = ""  # in our source


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Said while a child works."""

    text: str


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What a child says last."""

    compiled: tuple[Compiled, ...]
    fault: Fault | None = None
    assigned: tuple[Assigned, ...] = ()


Said = Progress | Answer
