"""Names and figures that the operator writes into a cluster, each with its reason.

A name that stands in someone's cluster can never be changed without handling every object anew, so
each is chosen here, once.
"""

from __future__ import annotations

from mdb_engine.models import mdbapp

GROUP = mdbapp.GROUP
VERSION = mdbapp.VERSION
KIND = mdbapp.KIND
PLURAL = mdbapp.PLURAL
API_VERSION = mdbapp.API_VERSION

FINALIZER = f"{GROUP}/deregister"
"""Holds an MdbApp until its grants, users, secret and (by policy) data are gone."""

LABEL_OWNER_UID = f"{GROUP}/owner-uid"
"""The UID of the MdbApp that a projected Secret belongs to.

A UID, not a name: an app deleted and created again under its old name is another owner. It is also
the selector of the Secret watch, so a Secret without it is never even seen.
"""

LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
"""The recommended label that tells a person which program writes an object."""

MANAGER = "mdb-operator"
"""The value of ``managed-by``, the field manager, and ``provider`` in the binding."""

ANNOTATION_ROTATE_REQUESTED = mdbapp.ANNOTATION_ROTATE_REQUESTED
ANNOTATION_REVOKE_PREVIOUS = mdbapp.ANNOTATION_REVOKE_PREVIOUS

ANNOTATION_FORCE_DELETE = f"{GROUP}/force-delete"
"""``"true"`` lets a deletion finish although MongoDB cannot be reached.

What is left behind in MongoDB counts as a tombstone: the slug stays with its namespace.
"""

ANNOTATION_CRD_VERSION = f"{GROUP}/crd-version"
"""On the CRD: the version that it is of, so that none brings an older one over a newer."""

ANNOTATION_CRD_HASH = f"{GROUP}/crd-hash"
"""On the CRD: changes with what it says, so that an equal one is not written again."""

ANNOTATION_RESTART_SUFFIX = "secret-version"
"""Ends the name of the pod template annotation ``mdb-engine.dev/<slug>.secret-version``.

The slug is part of the name because two apps may list one workload: with one shared name each
would undo the other's version and the workload would never stop rolling. The slug comes first
because such a name must end with a letter or digit; 48 + 15 characters are exactly the 63 allowed.
Its value is the version and the beginning of the registration's id: an app that was deleted with
its data and created again begins anew at version 1.
"""

SECRET_TYPE = "servicebinding.io/mongodb"  # noqa: S105 - the type of a Secret, not a secret
"""The projected Secret's type (Service Binding). The API server never lets it change."""

SECRET_KEYS = (
    "type",
    "provider",
    "uri",
    "host",
    "port",
    "database",
    "username",
    "password",
    "app-slug",
    "app-secret",
    "app-secret-previous",
    "session-key",
    "session-key-previous",
    "secret-version",
    "certificates",
    "client-certificate",
)
"""The constant key set of a projected Secret (DESIGN 5).

Constant, with empty values where one does not apply, because a client maps files once and a file
that comes and goes would look like a broken mount.
"""

ADDRESS_KEYS = frozenset({"host", "port"})
"""Not there with ``mongodb+srv``, whose name is none that an address can be looked up by: Service
Binding lets an entry of these names be nothing else than one host and its port."""

LEASE_NAME = "mdb-operator-leader"
"""The Lease that replicas contend for, unless the settings name another."""

EXIT_LEASE_LOST = 75
"""The exit code after a lost Lease: ``EX_TEMPFAIL``, as starting again is the remedy."""
