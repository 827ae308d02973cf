"""How busy a pool may be while few requests wait too long: the square-root staffing law.

A pool of k servers with offered load k*rho is a G/G/k queue. Its chance to wait and its mean wait are
approximated as by Sakasegawa (1977), "An approximation formula L_q = a*rho^beta/(1-rho)", and Allen and Cunneen:

    P(wait)   = rho^(sqrt(2(k+1)) - 1)
    P(W > t)  = P(wait) * exp(-t k (1 - rho) / (variability * S)),   variability = (ca^2 + cs^2) / 2

for mean service time S; the tail is exponential (exact for M/M/k). A larger pool may be busier: the spare share
1 - rho falls as the inverse root of k (Halfin and Whitt, 1981).
"""

import math

BUSIEST = 0.98  # above this a queue's length is decided by what no formula sees
VARIABILITY = 1.0  # Poisson arrivals and service times as spread as an exponential


def chance_to_wait_longer(limit_s: float, servers: float, service_s: float, utilisation: float) -> float:
    """Return P(W > limit_s) of a pool; `servers` may be any number from 1."""
    waiting = math.pow(utilisation, math.sqrt(2 * (servers + 1)) - 1)
    return waiting * math.exp(-max(0.0, limit_s) * servers * (1 - utilisation) / (VARIABILITY * service_s))


def safe_utilisation(limit_s: float, servers: float, service_s: float, late_share: float) -> float:
    """Return the highest utilisation at which at most `late_share` of requests wait longer than the limit.

    In [0, BUSIEST]; rises with the limit and with the number of servers.
    """
    if limit_s < 0:
        return 0.0
    low, high = 0.0, BUSIEST
    if chance_to_wait_longer(limit_s, servers, service_s, high) <= late_share:
        return high
    for _ in range(50):
        middle = (low + high) / 2
        if chance_to_wait_longer(limit_s, servers, service_s, middle) <= late_share:
            low = middle
        else:
            high = middle
    return low
