"""Measures the gateway beside its peers: the same fake replica, the same load, one core each, rounds interleaved."""
