"""The documents of the engine in MongoDB, one class per collection.

Stores know the shape of documents and turn the driver's errors into the library's. They decide
nothing.
"""
