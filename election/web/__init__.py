"""HTTP interface of a pool; any worker answers."""
