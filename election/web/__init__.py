"""What the pool shows over HTTP; any worker answers."""
