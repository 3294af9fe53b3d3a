"""Plain data: pydantic models and frozen dataclasses, no I/O."""
