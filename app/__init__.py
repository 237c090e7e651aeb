"""The demonstration application: what ``python run.py`` serves."""
