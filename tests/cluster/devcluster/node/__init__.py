"""A Kubernetes cluster of one node out of this machine's own processes, without Docker.

The node lives in namespaces of its own (process ids, mounts, network, host name), as a
container of kind would: its interfaces, firewall rules, mounts and processes end with the
first process of its namespace, however that one ends. That is what makes ``down`` sure to
leave nothing behind, and two clusters unable to see each other.
"""
