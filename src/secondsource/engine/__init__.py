"""The portable model: one decoder that XLA compiles for CPU, GPU and TPU, and a thin server over it."""
