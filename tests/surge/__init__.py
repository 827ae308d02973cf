"""A surge against a real gateway: replicas that queue as real ones do, and clients who do as they are told, or not."""
