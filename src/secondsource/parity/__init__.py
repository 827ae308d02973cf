"""Does one pool answer as another does: probes, their comparison, a sequential test and a verdict."""
