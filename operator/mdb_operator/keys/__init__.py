"""The master keys."""
