"""Costs as counts that need no stopwatch: a change that makes something more expensive fails here."""
