"""Master keys from outside: services that wrap and unwrap, chosen by a URI.

Each lives in a module of its own over its maintained client, which is an extra of the distribution
and is imported only where its URI is used. `open_key_managers` is the way in.
"""

from mdb_engine.key_managers.choice import KeyManagers, open_key_managers
from mdb_engine.key_managers.remote import RemoteKeyManager
from mdb_engine.key_managers.uri import KeyManagerUri

__all__ = ["KeyManagerUri", "KeyManagers", "RemoteKeyManager", "open_key_managers"]
