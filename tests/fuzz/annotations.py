"""Fuzz the operator with what stands beside specs: `make fuzz-annotations`.

Annotations and labels of MdbApps and of their Secrets, and statuses, which anybody may change who
may change the object; otherwise as `manifests`.
"""

from __future__ import annotations

import sys

from support.fault_table import FUZZED_ANNOTATIONS
from support.fuzzing import main, metadata

if __name__ == "__main__":
    main(metadata, FUZZED_ANNOTATIONS, int(sys.argv[1]))
