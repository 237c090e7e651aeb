"""The file engine's protocol as a small model, and a search through all its reachable states."""
