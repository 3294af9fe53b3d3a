"""What the operator keeps outside its process: one class per kind of object in the API server."""
