"""MdbApps: what is decided and done for each."""
