"""From a few layers to all of them: which are compiled, and how their figures are carried on to the model's depth."""

from collections.abc import Callable

from secondsource.engine.config import ModelConfig
from secondsource.port.job import Depth, Depths, Program
from secondsource.port.timeline import Spent, Walked

_DECODE_LAYERS = 8  # models of so many layers or fewer are compiled whole


def depths_of(config: ModelConfig, program: Program, *, whole: bool) -> Depths:
    """Return the depths to look at: all layers, or so few that the rest can be told from them.

    The time of a decode step needs one depth: its first layers have their weights fetched by nothing before them, and
    the last fetch ahead for none after them, but those between are alike. The layers of a prefill are not: what one of
    them takes is the difference of two depths, layers of both kinds being one kind here, since they look at the same
    places and differ in their masks. Memory needs another: a decode step's temporaries lie on a line, a prefill's do
    not (they may begin after many layers), so that is asked for at every layer.
    """
    local = len(config.local_layers)
    full = config.layers - local
    if whole or config.layers <= _DECODE_LAYERS or not full:
        return Depths((Depth(full, local),))
    if program.step == "prefill":
        return Depths((Depth(1), Depth(1, 1) if local else Depth(2)), (Depth(full, local),))
    each = _DECODE_LAYERS // 2
    deep = Depth(min(full, each), min(local, each)) if local else Depth(_DECODE_LAYERS)
    return Depths((deep,)) if program.filled_tokens else Depths((_half(deep), deep), (_half(deep),))


def memory_alone(depths: Depths) -> Depths:
    """Return where to look at a program that is not compiled: the compiler is asked of every depth."""
    return Depths((), tuple(sorted({*depths.compiled, *depths.assigned})))


def _half(depth: Depth) -> Depth:
    return Depth(max(1, depth.full // 2), depth.local // 2)


def carry_layers_on(walked: Walked, depth: Depth, config: ModelConfig) -> Spent | None:
    """Return what a step of the whole model takes, from where its layers end; None where the walk saw too few ends."""
    more_local = len(config.local_layers) - depth.local
    more_full = config.layers - len(config.local_layers) - depth.full
    if not (more_local or more_full):
        return walked
    ends, local = walked.layers, depth.local
    if len(ends) != depth.layers:
        return None
    # The last layer is left out where others remain: nothing is fetched ahead for a layer after it.
    last = depth.layers - (2 if depth.full > 2 else 1)
    spans = [(more_local, 0, local - 1), (more_full, max(0, local - 1), last)]
    if any(more and first >= end for more, first, end in spans):
        return None

    def whole(name: str) -> float:
        value: float = getattr(walked, name)
        for more, first, end in spans:
            if more:
                value += more * (getattr(ends[end], name) - getattr(ends[first], name)) / (end - first)
        return value

    return _spent(whole)


def carry_on(shallow: float, deep: float, depths: tuple[Depth, Depth], config: ModelConfig) -> float:
    """Return a figure at the model's depth on the straight line through its values at two depths; it never falls."""
    each = max(0.0, (deep - shallow) / (depths[1].layers - depths[0].layers))
    return deep + each * (config.layers - depths[1].layers)


def line_of(shallow: Spent, deep: Spent, depths: tuple[Depth, Depth], config: ModelConfig) -> Spent:
    """Return what a step of the whole model takes, on the straight line through walks at two depths."""

    def whole(name: str) -> float:
        return carry_on(getattr(shallow, name), getattr(deep, name), depths, config)

    return _spent(whole)


def _spent(whole: Callable[[str], float]) -> Spent:
    return Spent(
        seconds=whole("seconds"),
        cores_s=whole("cores_s"),
        memory_s=whole("memory_s"),
        links_s=whole("links_s"),
        operations=round(whole("operations")),
    )
