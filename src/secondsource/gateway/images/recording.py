"""What is counted and logged of a request about image jobs that no exchange was started for."""

import time
from datetime import UTC, datetime

from secondsource.gateway.images.asker import Asker, Wish
from secondsource.gateway.meter import Meter
from secondsource.gateway.request_log import RequestLine, RequestLog
from secondsource.policy.image_jobs import Verdict


class Recording:
    """Tells the meter and the request log; an exchange's own request tells them itself."""

    def __init__(self, meter: Meter, log: RequestLog) -> None:
        self._meter = meter
        self._log = log

    def came_to(self, verdict: Verdict) -> None:
        """Count what a request for images came to."""
        self._meter.image_requests[verdict.value] += 1

    def ended(self, asker: Asker, status: int) -> None:
        """Count and log a request that is answered, or whose client has left (499)."""
        duration_s = time.monotonic() - asker.started
        principal = asker.principal
        wish = asker if isinstance(asker, Wish) else None
        if wish is not None:
            path, model, lane = wish.ask.path, wish.ask.model, principal.lane
            self._meter.request_started(path, model, lane)
            self._meter.request_ended(path, model, lane, status, int(duration_s * 1e9), 0, 0)
        line = RequestLine(
            at=datetime.now(UTC),
            request_id=asker.request_id,
            status=status,
            tenant=principal.tenant,
            lane=principal.lane,
            key_id=principal.key_id,
            method="GET" if wish is None else "POST",
            endpoint=asker.path,
            model="" if wish is None else wish.ask.model,
            streamed=wish is not None and wish.ask.stream,
            duration_s=duration_s,
        )
        self._log.write([line])
