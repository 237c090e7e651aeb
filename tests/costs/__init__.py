"""What things cost, as counts that no stopwatch is needed for: a change that makes one dearer fails here."""
