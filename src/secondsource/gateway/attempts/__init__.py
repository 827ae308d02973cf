"""One try of one request at one replica: what is asked, what comes, and what it costs."""
