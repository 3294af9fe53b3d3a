"""For the tests of apps: a scoped database without a registry, and operations that fail on demand.

The pytest plugin, `mdb_engine.pytest_plugin`, has fixtures of the whole engine. Nothing of the
library imports this package, and where a binding of the operator is mounted it refuses to work:
what is in here asks for no token.
"""

from __future__ import annotations

from mdb_engine.testing.database import scoped_database
from mdb_engine.testing.faults import Faults
from mdb_engine.testing.server import random_database, running_mongod

__all__ = ["Faults", "random_database", "running_mongod", "scoped_database"]
