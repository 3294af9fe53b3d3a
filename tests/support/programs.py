"""Programs that tests need beside the locked dependencies."""

from __future__ import annotations

from collections.abc import Sequence

from devcluster.errors import DevclusterError
from devcluster.filelock import hold
from devcluster.packages import Requirement, find, require
from devcluster.paths import cache_dir
from devcluster.progress import Progress
from support.clusters import cannot_test


def ensure_debian_packages(packages: Sequence[str]) -> None:
    """See to it that programs are there, installing Debian's packages of their names as root.

    Skips the test loudly where they are missing and cannot be installed; fails it in CI.
    """
    requirements = [Requirement(package, (package,)) for package in packages]
    try:
        with hold(cache_dir() / "packages.lock"):
            require(requirements, Progress())
    except DevclusterError as error:
        cannot_test(str(error))


def program(name: str) -> str:
    """Return the path of a program, after `ensure_debian_packages` of its name."""
    ensure_debian_packages([name])
    found = find(name)
    assert found is not None
    return found
