"""Directories in the place of a mounted binding, a sample of `make fuzz-bindings`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from support.binding_inputs import Mount, check_binding, mounts, valid

from mdb_engine.connection.binding import find_binding
from mdb_engine.exceptions import BindingError


def mount(layout: str = "mounted", **odd: object) -> Mount:
    """Return a mount with some entries that are found nowhere else."""
    return Mount(layout, valid(1) | {k.replace("_", "-"): v for k, v in odd.items()}, None, 0)


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(mounts)
# Each was found by fuzzing.
@example(mount("not utf-8", type=b"\x80"))  # an error with half a character, which no log can hold
@example(mount(uri=b"mongodb://of-version\r\nx: y"))  # a line break inside of the URI was taken
@example(mount(app_slug=b"of-version\r\nx: y"))  # what stood in it was shown, lines and all
@example(mount(app_slug=b"of-version" * 1000))
@example(mount(database=b"mongodb://of-version"))
def test_whatever_is_mounted_is_read_as_a_whole_or_refused_without_its_content(
    mount: Mount,
) -> None:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        check_binding(mount, Path(name))


def test_a_root_that_cannot_be_looked_at_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(
        BindingError, match=rf"{tmp_path} cannot be looked at \(Permission denied\)"
    ):
        find_binding(tmp_path)
