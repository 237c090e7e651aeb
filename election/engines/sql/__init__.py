"""SQL ledger: commands and queries, written once for the databases of all engines."""
