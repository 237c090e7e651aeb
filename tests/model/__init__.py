"""The file engine's protocol as a small model, and a search through all that can happen to it."""
