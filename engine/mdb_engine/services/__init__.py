"""Decisions of the domain: what may be registered, granted, rotated."""
