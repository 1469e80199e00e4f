"""Runs on disk: records, locks, states, seeds and provenance."""
