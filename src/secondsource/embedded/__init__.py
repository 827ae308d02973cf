"""The embedded default: a small real model served by two supervised processes on this machine."""
