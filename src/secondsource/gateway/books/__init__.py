"""The books: a journal that each gateway process appends to, and the ledger that absorbs it.

`journal` is written on the hot path, `absorption` and `posting` make it rows of `ledger`, `ledger_reading` reads
the books without owning them, `billing` and `audit` sum them up and check the sums.
"""
