"""What OpenAI's HTTP API looks like in bytes: requests, events, continuations. Pure; no socket here."""
