"""Put a model through the compiler of a chip that nobody here has: does it compile, does it fit, how fast."""
