"""Four virtual CPU devices, so that sharding is tested on any machine; told before jax starts its backend."""

import jax

jax.config.update("jax_num_cpu_devices", 4)
