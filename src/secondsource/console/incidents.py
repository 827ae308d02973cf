"""Incidents: failovers, refusals, broken answers, caps and promises; those of a kind and a moment as one."""

from collections import OrderedDict
from datetime import datetime
from enum import StrEnum

import msgspec

from secondsource.core.fleet import Lane
from secondsource.gateway.request_log import RequestLine

TOGETHER_S = 10
MOST_KEPT = 200
MOST_REQUESTS = 20  # named by each
CLIENT_LEFT = 499


class IncidentKind(StrEnum):
    """What happened."""

    FAILOVER = "failover"  # another attempt took over
    REFUSAL = "refusal"
    BROKEN = "broken"  # the client got an error, or half an answer and an error
    BREACH = "breach"  # at a supplier that had its share of the spend already
    LATE = "late"  # answered later than the lane promises


class Incident(msgspec.Struct, kw_only=True):
    """What happened within ten seconds for one reason; `at` is when the last of it did."""

    kind: IncidentKind
    reason: str
    lane: str
    supplier: str
    at: datetime
    count: int
    request_ids: list[str]  # the first few


class Incidents:
    """The newest incidents."""

    def __init__(self, lanes: tuple[Lane, ...]) -> None:
        self._lanes = {lane.name: lane for lane in lanes}
        self._kept: OrderedDict[tuple[str, str, str, str, int], Incident] = OrderedDict()

    def note(self, line: RequestLine, weight: int = 1) -> None:
        """Take a request that has ended, which stands for `weight` like it; most are no incident."""
        failed = [tried for tried in line.attempts if tried.outcome != "ok"]
        if line.refusal is not None:
            if line.status in (429, 503):
                self._add(IncidentKind.REFUSAL, line.refusal, "", line, weight)
            return
        if line.status == CLIENT_LEFT:
            return
        if line.status >= 500:
            last = line.attempts[-1] if line.attempts else None
            reason = last.outcome.value if last else f"HTTP {line.status}"
            self._add(IncidentKind.BROKEN, reason, last.supplier if last else "", line, weight)
        elif failed and len(line.attempts) > 1:
            self._add(IncidentKind.FAILOVER, failed[0].outcome.value, failed[0].supplier, line, weight)
        elif line.over_share is True:
            self._add(IncidentKind.BREACH, "max_share", line.attempts[-1].supplier, line, weight)
        elif line.status == 200 and (late := missed(line, self._lanes.get(line.lane))):
            self._add(IncidentKind.LATE, late, line.attempts[-1].supplier if line.attempts else "", line, weight)

    def newest(self, most: int) -> list[Incident]:
        """Return the newest incidents, newest first."""
        return sorted(self._kept.values(), key=lambda one: one.at, reverse=True)[:most]

    def _add(self, kind: IncidentKind, reason: str, supplier: str, line: RequestLine, weight: int) -> None:
        key = (kind.value, reason, supplier, line.lane, int(line.at.timestamp()) // TOGETHER_S)
        incident = self._kept.get(key)
        if incident is None:
            incident = Incident(
                kind=kind, reason=reason, lane=line.lane, supplier=supplier, at=line.at, count=0, request_ids=[]
            )
            self._kept[key] = incident
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        incident.count += weight
        incident.at = max(incident.at, line.at)
        if len(incident.request_ids) < MOST_REQUESTS:
            incident.request_ids.append(line.request_id)


def missed(line: RequestLine, lane: Lane | None) -> str:
    """Return which promise of its lane an answer missed: "ttft", "tpot", or ""."""
    if lane is None or line.first_token_s is None:
        return ""
    if lane.ttft_s is not None and line.first_token_s > lane.ttft_s:
        return "ttft"
    tpot = per_token_s(line)
    return "tpot" if lane.tpot_s is not None and tpot is not None and tpot > lane.tpot_s else ""


def per_token_s(line: RequestLine) -> float | None:
    """Return the mean time per token after the first, in seconds; None of an answer without two."""
    if line.first_token_s is None or line.tokens_out < 2:
        return None
    return max(line.duration_s - line.first_token_s, 0.0) / (line.tokens_out - 1)
