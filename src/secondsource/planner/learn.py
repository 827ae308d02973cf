"""Learn a SPEC's workloads: size classes with their shares, and how the mean stands to the peak."""

from secondsource.planner.problem import Record
from secondsource.planner.spec import WorkloadSpec
from secondsource.workload.shape import learn_shape, windows_of
from secondsource.workload.sizes import LearnedClass, learn_classes
from secondsource.workload.trace import read_trace


class Learnt(Record, frozen=True, kw_only=True):
    """What a trace taught: classes with shares that add up to 1, and the mean rate over the peak's."""

    classes: tuple[LearnedClass, ...]
    mean_to_peak: float


def learn(workload: WorkloadSpec) -> Learnt:
    """Read a workload's trace twice, once for sizes and once for its shape, in bounded memory."""
    sizes = read_trace(workload.trace, workload.format, workload.max_gap_s)
    classes = learn_classes(sizes, workload.classes, workload.name)
    times = read_trace(workload.trace, workload.format, workload.max_gap_s)
    return Learnt(classes=classes, mean_to_peak=learn_shape(windows_of(times)).mean_to_peak)
