"""Image requests as jobs: kept, joined, gone on with after a restart."""
