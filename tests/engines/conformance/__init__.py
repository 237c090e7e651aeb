"""Promises of every engine, written once: each test here runs on a pool of each engine."""
