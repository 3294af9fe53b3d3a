"""Fuzz the operator with specs made of the CRD's own schema: `make fuzz-manifests`.

Batches of apps are created, changed, and deleted on a real API server, beside a neighbour, with a
real operator and a real mongod. What must not be is in `build/fuzz-manifests.txt` afterwards, with
the spec that did it, and ends the run with an error; each is kept as a case in
tests/integration/operator/test_fuzzed_manifests.py.
"""

from __future__ import annotations

import sys

from support.fault_table import FUZZED_MANIFESTS
from support.fuzzing import main, manifests

if __name__ == "__main__":
    main(manifests, FUZZED_MANIFESTS, int(sys.argv[1]))
