"""Optional authorisation in front of the scoped database."""
