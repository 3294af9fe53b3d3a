"""The database that the apps share, seen by the operator."""
