"""The API server: requests, and a store for each kind of object."""
