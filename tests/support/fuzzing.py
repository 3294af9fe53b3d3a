# ruff: noqa: E501, PLW2901, T201 - says what came of a run
"""What `make fuzz-manifests` and `make fuzz-annotations` give an operator, and the tests in part."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from mdb_operator.constants import FINALIZER, LABEL_MANAGED_BY, LABEL_OWNER_UID
from support.clusters import starting_control_plane
from support.crd_inputs import NAMES, TEXTS, mutated, specs
from support.fuzzed import NEIGHBOUR, Fuzzed, fuzzed
from support.installation import installed, is_ready
from support.mongo import start_server

__all__ = ["main", "manifests", "metadata"]

Value = TypeVar("Value")

SLUG = "slug-of-the-app"
"""Stands for the slug in what is drawn."""

BATCH = 6
"""Apps at once."""

DRAWN = 48
"""Inputs that are drawn at once, as each drawing begins with the simplest."""


def _drawn(strategy: st.SearchStrategy[Value], number: int) -> list[Value]:
    """Return some values, others for each number and the same ones for the same."""
    found: list[Value] = []

    @seed(number)
    @settings(
        max_examples=DRAWN,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(value: Value) -> None:
        found.append(value)

    keep()
    return found


@st.composite
def _case(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw the specs of an app's life: as the schema has it, mutated, and another one."""
    first, other = draw(specs(SLUG)), draw(specs(SLUG))
    return [first, draw(mutated(first)), draw(mutated(other)), other]


def _slug(number: int) -> str:
    """Return a slug of an app's own; some read like another's, or fall into it."""
    return {3: f"neighbour_{number}", 5: f"neighbour-{number}", 6: NEIGHBOUR, 7: "shared"}.get(
        number % 64 if number % 64 < 8 else 0, f"f{number}"
    )


def manifests(world: Fuzzed, goes_on: Callable[[], bool], first: int = 0) -> None:
    """Create, change and delete apps in batches."""
    for batch, cases in enumerate(_batches(_case(), first)):
        if not goes_on():
            return
        lives = {f"m{first}-{batch}-{n}": one for n, one in enumerate(cases)}
        for step in range(4):
            given_to = []
            for number, (name, specs_of_it) in enumerate(lives.items()):
                slug = _slug(batch * BATCH + number)
                spec = json.loads(json.dumps(specs_of_it[step]).replace(SLUG, slug))
                if world.offer(name, spec, correct=step in {0, 3}):
                    given_to.append(name)
            world.settle(*given_to)
        world.rest()
        world.neighbour()
        world.remove(*lives)
        world.look_at_log()


def _batches(strategy: st.SearchStrategy[Value], first: int) -> Iterator[Sequence[Value]]:
    for number in itertools.count(first):
        drawn = _drawn(strategy, number)
        for start in range(0, len(drawn), BATCH):
            yield drawn[start : start + BATCH]


# --- annotations, labels and statuses

_OURS = ("rotate-requested", "revoke-previous", "force-delete", "secret-version", "x", "suspend")

_VALUES = st.one_of(
    st.sampled_from([*TEXTS, *NAMES, "true", "false", "x" * 128, "x" * 129, "x" * 200_000]),
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.none(),
)

_LABELS = st.one_of(
    st.sampled_from(
        ["", "x", "true", "mdb-operator", "-", "a" * 63, "a" * 64, "..", "UID", "OTHER"]
    ),
    st.none(),
)

_TIMES = ["2026-01-31T12:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "x", None]

_ROW = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["Ready", "Registered", "Stalled", "SecretProjected", "Other"]),
        "status": st.sampled_from(["True", "False", "Unknown"]),
        "reason": st.sampled_from(["Provisioned", "SlugTaken", "Suspended", "Foo"]),
        "message": _VALUES.filter(lambda text: text is not None),
        "observedGeneration": st.sampled_from([0, 1, 2**53]),
        "lastTransitionTime": st.sampled_from(_TIMES[:3]),
    }
)

_STATUS = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "observedGeneration": st.sampled_from([-1, 0, 1, 2**53]),
            "conditions": st.lists(_ROW, max_size=3, unique_by=lambda row: row["type"]),
            "binding": st.one_of(st.none(), st.builds(dict, name=st.sampled_from(NAMES))),
            "secret": st.one_of(
                st.none(),
                st.fixed_dictionaries(
                    {
                        "version": st.sampled_from([1, 2, 2**53]),
                        "keyId": st.sampled_from(TEXTS),
                        "rotatedAt": st.sampled_from(_TIMES),
                        "previousExpiresAt": st.sampled_from(_TIMES),
                    }
                ),
            ),
            "grantedScopes": st.lists(st.sampled_from(["neighbour", "a0", "x"]), unique=True),
            "deniedScopes": st.one_of(st.none(), st.just([{"slug": "x", "reason": "NotGranted"}])),
        },
    ),
)

_METADATA = {
    "annotations": st.dictionaries(
        st.sampled_from([*(f"mdb-engine.dev/{name}" for name in _OURS), "x", "kopf.dev/x"]),
        _VALUES,
        min_size=1,
        max_size=4,
    ),
    "labels": st.dictionaries(
        st.sampled_from([LABEL_OWNER_UID, LABEL_MANAGED_BY, "mdb-engine.dev/x", "x"]),
        _LABELS,
        min_size=1,
        max_size=3,
    ),
}

_CHANGE = st.one_of(
    st.tuples(st.just("MdbApp"), st.fixed_dictionaries({}, optional=_METADATA)),
    st.tuples(st.just("MdbApp"), st.fixed_dictionaries({"annotations": _METADATA["annotations"]})),
    st.tuples(st.just("Secret"), st.fixed_dictionaries({}, optional=_METADATA)),
    st.tuples(st.just("status"), _STATUS),
)


def metadata(world: Fuzzed, goes_on: Callable[[], bool], first: int = 0) -> None:
    """Change what stands beside the specs of some apps, and see that they stay what they were."""
    here, api = world.here, world.here.cluster.api
    for batch, changes in enumerate(_batches(_CHANGE, first)):
        if not goes_on():
            return
        names = [f"a{first}-{batch}-{n}" for n in range(len(changes) if batch % 4 == 0 else 4)]
        for name in names:
            world.offer(name, {"slug": name, "collections": [{"name": "c"}]})
        world.settle(*names)
        for number, (kind, change) in enumerate(changes):
            name = names[number % len(names)]
            text = json.dumps(change).replace(
                '"UID"', json.dumps(here.app(name)["metadata"]["uid"])
            )
            other = here.app(NEIGHBOUR)["metadata"]["uid"]
            change = json.loads(text.replace('"OTHER"', json.dumps(other)))
            if kind == "status":
                world.attempt(
                    "a status",
                    partial(api.patch_status, "MdbApp", name, {"status": change}, here.apps),
                )
            else:
                of = name if kind == "MdbApp" else f"{name}-mdb"
                world.attempt(
                    "metadata",
                    partial(api.patch, kind, of, {"metadata": change}, here.apps),
                )
        world.settle(*names)
        world.rest()
        world.neighbour()
        for name in names:
            app = here.get("MdbApp", name)
            if app is None or not is_ready(app.get("status") or {}):
                world.found("is not ready because of what stands beside its spec", [app, changes])
            elif FINALIZER not in app["metadata"]["finalizers"]:
                world.found("lost its finalizer", app)
        world.settle(*names)
        world.remove(*names)
        world.look_at_log()


# --- running it


def main(work: Callable[[Fuzzed, Callable[[], bool]], None], out: Path, seconds: int) -> None:
    """Fuzz for some seconds; end with an error if anything was found."""
    with (
        tempfile.TemporaryDirectory() as name,
        starting_control_plane() as cluster,
        start_server(auth=True) as server,
        installed(cluster, server, Path(name)) as here,
        fuzzed(here) as world,
    ):
        began = time.monotonic()
        work(world, lambda: time.monotonic() - began < seconds)
        world.end()
        out.parent.mkdir(exist_ok=True)
        report = out.with_suffix(".txt")
        report.write_text("\n".join(world.findings))
        took = round(time.monotonic() - began)
        print(dict(world.counts), f"{took} s, {len(world.ledger)} credentials tried")
        for field, count in world.by_model.most_common():
            print(f"the model refuses, and the schema does not: {count} x {field}")
    if world.findings:
        raise SystemExit(f"{len(world.findings)} findings, see {report}")
    out.write_text(json.dumps({**world.counts, "seconds": took, "credentials": len(world.ledger)}))
