"""When a dead source is started again. Pure: time and chance are passed in."""

import msgspec


class RestartPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The first restart is at once; later ones double from `base_s` to `cap_s`, with jitter."""

    base_s: float = 0.5
    cap_s: float = 30.0
    healthy_after_s: float = 30.0  # a source that served this long begins again with a clean slate


class RestartHistory(msgspec.Struct, frozen=True, kw_only=True):
    """How many times in a row a source has died young."""

    deaths: int = 0


def after_death(
    policy: RestartPolicy, history: RestartHistory, served_s: float, chance: float
) -> tuple[RestartHistory, float]:
    """Return the new history and the seconds to wait before the next start.

    `served_s` is how long the source was ready before it died (0: it never was), `chance` a uniform number
    in [0, 1). The wait lies between half and the whole of the doubled one, so that two sources which died
    of one cause do not come back in step.
    """
    deaths = 1 if served_s >= policy.healthy_after_s else history.deaths + 1
    new_history = RestartHistory(deaths=deaths)
    if deaths == 1 and served_s > 0:
        return new_history, 0.0
    doubled = min(policy.cap_s, policy.base_s * 2.0 ** min(max(deaths - 2, 0), 30))
    return new_history, doubled * (0.5 + 0.5 * chance)
