"""What every engine promises, written once: each test here runs on a pool of each engine."""
