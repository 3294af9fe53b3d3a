"""A Docker engine of devcluster's own, for machines that have none.

Debian's ``dockerd`` in namespaces of its own: its rules, bridges, mounts and containers are not
the machine's, and end with its first process. The machine reaches it by a link, as it reaches a
node (`devcluster.node`); it reaches the world through ``slirp4netns``, which needs no rule either.
"""
