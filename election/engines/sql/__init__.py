"""A ledger in SQL: what a term writes and what anybody asks, once, for every database that an engine brings."""
