"""What to rent: a multi-period plan that survives losing any supplier, with its proof and its reasons."""
