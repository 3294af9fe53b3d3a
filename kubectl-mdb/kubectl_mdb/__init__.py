"""The kubectl plugin for MdbApps."""
