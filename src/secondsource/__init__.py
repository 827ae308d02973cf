"""One OpenAI-compatible model service over many chip suppliers."""

__version__ = "0.1.0"
