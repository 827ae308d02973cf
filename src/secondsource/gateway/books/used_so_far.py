"""What keys and tenants used today and of late, read from the ledger at the start, so that limits outlive a restart."""

import sqlite3

from secondsource.core.records import Outcome
from secondsource.policy.limits import DAY_S, PastUse, Use

SECOND_NS = 1_000_000_000
DAY_NS = int(DAY_S) * SECOND_NS
RECENT_NS = 120 * SECOND_NS  # told by the second: longer than any limit by the minute remembers
COUNTED = (Outcome.OK, Outcome.CLIENT_GONE)  # whose tokens are the tenant's

QUERY = """
SELECT key_id, tenant, max(at_ns / 1000000000, ?) AS second, COUNT(*) FILTER (WHERE number = 1),
    COALESCE(SUM(tokens_in + tokens_out) FILTER (WHERE outcome IN (?, ?)), 0), COALESCE(SUM(tenant_nano_usd), 0)
FROM attempt WHERE at_ns >= ? GROUP BY key_id, tenant, second ORDER BY second
"""


def used_so_far(connection: sqlite3.Connection, now_ns: int) -> list[PastUse]:
    """Return what was used since midnight (UTC) and in the last two minutes, oldest first.

    What of today is older than two minutes is told as one sum.
    """
    midnight_ns = now_ns // DAY_NS * DAY_NS
    recent_ns = now_ns - RECENT_NS
    earliest = recent_ns // SECOND_NS
    counted = (outcome.value for outcome in COUNTED)
    rows = connection.execute(QUERY, (earliest, *counted, min(midnight_ns, recent_ns))).fetchall()
    return [
        PastUse(key_id, tenant, float(second), requests, Use(tokens, nano_usd))
        for key_id, tenant, second, requests, tokens, nano_usd in rows
    ]
