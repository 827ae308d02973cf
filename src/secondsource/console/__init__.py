"""The console: a page for people on the admin listener. It reads what the gateway shows, and owns no state of it."""
