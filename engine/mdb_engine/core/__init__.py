"""Cryptography of the engine."""
