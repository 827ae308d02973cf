"""What a chip does with a model: predicted rates, their evidence, and capacity under a service level."""
