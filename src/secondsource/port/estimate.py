"""One model on one kind of chip: how many chips, which batch, and the report of it."""

from collections.abc import Callable

import msgspec

from secondsource.catalog.records import Catalog, Chip
from secondsource.core.errors import InputError
from secondsource.port.compiling import run_compile
from secondsource.port.job import CacheDtype, Step, Weights
from secondsource.port.measuring import Measured, Run, Setup, measure
from secondsource.port.models import NamedModel
from secondsource.port.placing import choose_placing, stored_bytes
from secondsource.port.report import Report
from secondsource.port.reporting import Findings, make_report, tpot_s
from secondsource.port.targets import make_target, most_chips

DEFAULT_BATCH = 8
_MOST_BATCH = 512
_MOST_TRIES = 4  # compiles in search of a batch
_BOTH: tuple[Step, ...] = ("decode", "prefill")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What the user wants to know; None is for us to choose."""

    model: NamedModel
    chip: Chip
    chips: int | None = None
    batch: int | None = None
    context_tokens: int = 4096
    prompt_tokens: int = 1024
    chunk_tokens: int = 512
    filled_tokens: int | None = None  # of every slot, at the decode step; None: as `typical_tokens`
    full_slots: bool = False  # whether the decode step with full slots is timed as well
    weights: Weights = "bf16"
    cache: CacheDtype | None = None  # None: as the weights
    data_parallel: int | None = None
    ttft_s: float | None = None
    tpot_s: float | None = None
    whole: bool = False
    save_to: str = ""
    seconds: float = 600.0

    @property
    def typical_tokens(self) -> int:
        """What a slot holds on average while sequences come and go: a prompt, and half of its answer."""
        return (self.prompt_tokens + self.context_tokens) // 2

    def setup(self, chips: int, batch: int) -> Setup:
        """Return the setup of so many chips; raises InputError where the model cannot be divided so."""
        target = make_target(self.chip, chips)
        filled = self.typical_tokens if self.filled_tokens is None else self.filled_tokens
        return Setup(
            config=self.model.config,
            weights=self.weights,
            cache=self.cache or self.weights,
            target=target,
            placing=choose_placing(self.model.config, target.devices, batch, self.data_parallel),
            batch=batch,
            context_tokens=self.context_tokens,
            filled_tokens=0 if filled == self.context_tokens else filled,
            full_slots=self.full_slots,
            prompt_tokens=self.prompt_tokens,
            chunk_tokens=min(self.chunk_tokens, self.prompt_tokens),
            whole=self.whole,
            save_to=self.save_to,
            seconds=self.seconds,
        )


def estimate(ask: Ask, catalog: Catalog, as_of: str, say: Callable[[str], None], run: Run = run_compile) -> Report:
    """Return the report; raises InputError where the question cannot be asked so."""
    _check(ask)
    search = _Search(ask, say, run)
    batch = ask.batch or DEFAULT_BATCH
    last = search.fewest_chips(batch)
    chips = ask.chips or (last.setup.target.chips if last else search.largest(batch))
    measured = last if last and last.setup.target.chips == chips else search.measured(chips, batch)
    if ask.tpot_s is not None and measured.fits:
        measured = search.within_tpot(measured, ask.tpot_s)
    findings = Findings(
        model=ask.model,
        chip=ask.chip,
        measured=measured,
        chips_needed=last.setup.target.chips if last and last.fits and last.compiles else None,
        fitting_batch=search.fitting_batch(measured.setup.target.chips),
        ttft_s=ask.ttft_s,
        tpot_s=ask.tpot_s,
    )
    return make_report(findings, catalog, as_of)


def _check(ask: Ask) -> None:
    if not 1 <= ask.prompt_tokens < ask.context_tokens:
        raise InputError(
            f"--prompt {ask.prompt_tokens}: expected from 1 to less than the context of {ask.context_tokens} tokens"
        )
    if ask.filled_tokens is not None and not 1 <= ask.filled_tokens <= ask.context_tokens:
        raise InputError(f"--filled {ask.filled_tokens}: expected from 1 to the context of {ask.context_tokens} tokens")
    if ask.context_tokens > ask.model.config.context_tokens:
        raise InputError(
            f"--context {ask.context_tokens}: {ask.model.name} holds at most {ask.model.config.context_tokens} tokens"
        )
    if ask.batch is not None and not 1 <= ask.batch <= 4096:
        raise InputError(f"--batch {ask.batch}: expected from 1 to 4096 sequences")


class _Search:
    """Compiles of one question, each made once."""

    def __init__(self, ask: Ask, say: Callable[[str], None], run: Run) -> None:
        self._ask = ask
        self._say = say
        self._run = run
        self._done: dict[tuple[int, int], Measured] = {}

    def measured(self, chips: int, batch: int) -> Measured:
        """Return what the compiler makes of both steps on so many chips."""
        if (chips, batch) not in self._done:
            setup = self._ask.setup(chips, batch)
            self._done[(chips, batch)] = measure(setup, self._say, _BOTH, self._run)
        return self._done[(chips, batch)]

    def _sizes(self, batch: int) -> list[int]:
        """Return the numbers of chips that a slice may have and the model can be divided over."""
        found = []
        chips = 1
        while chips <= most_chips(self._ask.chip):
            try:
                self._ask.setup(chips, batch)
            except InputError:
                chips *= 2
                continue
            found.append(chips)
            chips *= 2
        return found

    def largest(self, batch: int) -> int:
        """Return the most chips that can be asked for; raises InputError where the model goes on none."""
        sizes = self._sizes(batch)
        if not sizes:
            self._ask.setup(1, batch)  # raises, and says why
        return sizes[-1]

    def _holds(self, chips: int, batch: int) -> bool:
        setup = self._ask.setup(chips, batch)
        held = stored_bytes(setup.config, setup.weights, batch, setup.context_tokens, setup.placing, setup.cache)
        return sum(held) <= setup.target.memory_bytes_per_device

    def fewest_chips(self, batch: int) -> Measured | None:
        """Return the measurement on the fewest chips that hold the model; None where none do, by arithmetic.

        Where it does not compile, or the compiler gives no answer, that is the answer: more chips would hide it. Where
        none holds it with its temporaries, it is that of the most chips.
        """
        measured = None
        for chips in self._sizes(batch):
            if not self._holds(chips, batch):
                continue
            measured = self.measured(chips, batch)
            if measured.fits or not measured.compiles:
                break
        return measured

    def fitting_batch(self, chips: int) -> int | None:
        """Return the largest power of two of sequences whose cache the chips hold, by arithmetic; None: not one."""
        fitting = None
        batch = 1
        while batch <= _MOST_BATCH:
            try:
                if self._holds(chips, batch):
                    fitting = batch
            except InputError:
                pass
            batch *= 2
        return fitting

    def within_tpot(self, measured: Measured, limit_s: float) -> Measured:
        """Return the measurement of the largest batch found that keeps the limit, or of the last one tried.

        A batch that the user gave is only made smaller.
        """
        chips = measured.setup.target.chips
        for _ in range(_MOST_TRIES):
            if _keeps(measured, limit_s) or measured.setup.batch == 1:
                break
            measured = self._try(chips, measured.setup.batch // 2) or measured
        if self._ask.batch is not None or not _keeps(measured, limit_s):
            return measured
        for _ in range(_MOST_TRIES):
            larger = self._try(chips, measured.setup.batch * 2)
            if larger is None or not larger.fits or not _keeps(larger, limit_s):
                break
            measured = larger
        return measured

    def _try(self, chips: int, batch: int) -> Measured | None:
        try:
            return self.measured(chips, batch) if self._holds(chips, batch) else None
        except InputError:
            return None


def _keeps(measured: Measured, limit_s: float) -> bool:
    found = tpot_s(measured)
    return found is not None and found <= limit_s
