"""Architectures that are built from scratch."""
