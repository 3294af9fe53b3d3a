"""A real Kubernetes and a real MongoDB on any machine, for the tests and the demo."""
