"""The server: rounds and sums; it sees no patient and no ledger."""
