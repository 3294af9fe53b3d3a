"""What the registry knows of an app: frozen dataclasses and pure functions, no I/O."""
