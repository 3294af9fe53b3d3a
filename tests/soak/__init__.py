"""Half an hour of random changes, restarts and kills, and whether anything grows or breaks.

``make soak-operator``.
"""
