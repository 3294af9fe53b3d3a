"""The way to MongoDB: driver, pool, and the binding that the credentials come from."""
