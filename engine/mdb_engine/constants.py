"""Names and figures of the contract that more than one module needs, each with its reason."""

from __future__ import annotations

APPS_COLLECTION = "apps_config"
"""One document per app: manifest, owner, generation. Read and written by the operator alone."""

SECRETS_COLLECTION = "_mdb_engine_app_secrets"
"""One document per app: its envelope-encrypted secret. Read and written by the operator alone."""

GRANTS_COLLECTION = "_mdb_engine_grants"
"""One document per app: verifiers, granted scopes, collections. Pods read, the operator writes."""

AUDIT_COLLECTION = "_mdb_engine_audit"
"""One document per access event. Pods insert; a TTL index and a bound in bytes cap it."""

INSTALLATION_COLLECTION = "_mdb_engine_installation"
"""One document: which installation of the operator the database is managed by."""

LEGACY_COLLECTION = "_mdb_engine_legacy"
"""What the earlier version of the library had in the engine's collections, set aside."""

ENGINE_COLLECTIONS = frozenset(
    {
        APPS_COLLECTION,
        SECRETS_COLLECTION,
        GRANTS_COLLECTION,
        AUDIT_COLLECTION,
        INSTALLATION_COLLECTION,
        LEGACY_COLLECTION,
    }
)
"""Physical names that no app may ever own or reach."""

APP_ID_FIELD = "app_id"
"""The field that stamps every document with the slug of the app that wrote it."""

SLUG_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,47}$"
"""An app's slug. 48 characters leave room in MongoDB's 120-byte namespaces for the collection."""

COLLECTION_PATTERN = r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,47}$"
"""A collection's logical name: no leading underscore (the engine's), no dot and no ``$``."""

GRANT_TTL_SECONDS = 5.0
"""How old a cached grant may be before it is refreshed, so how fast a revocation takes hold."""

GRANT_MAX_AGE_SECONDS = 30.0
"""How long cached grants are trusted while they cannot be refreshed; then it fails closed."""

DEFAULT_OVERLAP_SECONDS = 600
"""How long a previous secret keeps working. Well above kubelet's delay (55 s were measured)."""

MIN_OVERLAP_SECONDS = 120
"""The least overlap: twice the time that a mounted Secret was seen to take to reach a pod."""

MAX_SECRET_VERSIONS = 5
"""How many versions of one app's secret may be valid at once; a further rotation waits."""

AUDIT_TTL_SECONDS = 30 * 24 * 3600
"""How long an audit event is kept: a month, the usual window of an incident's review."""

AUDIT_MAX_BYTES = 256 * 1024**2
"""How large the audit trail may get: about half a million events, and no month of a flood's."""

AUDIT_TIME_FIELD = "at"
"""The field of an audit event that its TTL index reads; a date."""

MASTER_KEY_VARIABLE = "MDB_ENGINE_MASTER_KEY"
"""The environment variable that holds the keyring in standalone mode."""

DEFAULT_KEY_ID = "default"
"""The id of a master key that is given alone, without one."""

MASTER_KEY_BYTES = 32
"""AES-256."""

TOKEN_BYTES = 32
"""Random bytes in a token, a session key or a database password: 256 bits."""

MAX_ATTEMPTS = 8
"""How often a write that lost a race is tried again before `VersionConflict` says so."""

ANONYMOUS = "anonymous"
"""Who asks without a session; no session is of that name."""
