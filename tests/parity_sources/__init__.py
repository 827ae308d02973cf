"""Replicas with a fault seeded into them, for `secondsource parity` to find."""
