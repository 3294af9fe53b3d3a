"""Scoped, token-verified access to one shared MongoDB for many apps."""
