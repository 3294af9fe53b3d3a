"""What manifests and MdbApps say: pydantic models, no I/O and no driver."""
