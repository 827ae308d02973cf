"""Several workers behind one port: a coordinator that owns what there is one of, and what it says to them."""
