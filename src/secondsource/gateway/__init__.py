"""The input and output around policy: listeners, upstream connections, wire formats, stores."""
