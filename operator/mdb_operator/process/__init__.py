"""The operator's process: its life, its connections, what it tells about itself."""
