"""Cases after the texts of the drivers' specifications, each a few operations on one collection.

Sources: https://github.com/mongodb/specifications, crud, collation, transactions, sessions,
causal-consistency, retryable-reads, retryable-writes and change-streams; the cases are this
project's own. Most are made by the dozen: an operation of each kind in each situation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["AREAS", "CASES", "Case", "Step"]

THREE = [{"_id": 1, "x": 11}, {"_id": 2, "x": 22}, {"_id": 3, "x": 33}]
WORDS = [{"_id": 1, "w": "ping"}, {"_id": 2, "w": "PING"}, {"_id": 3, "w": "pong"}]

Step = tuple[str, Mapping[str, Any]]
"""An operation's name and its arguments; ``@`` before a name is one of the runner's own."""


@dataclass(frozen=True)
class Case:
    """What is run on a driver's database and on a scoped one.

    Parameters
    ----------
    area
        The specification.
    name
        What it shows.
    steps
        The operations.
    data
        The documents before.
    fail
        What ``failCommand`` is told, if anything.
    refused
        Why the scoped database refuses it by design, if it does.
    differs
        Why the outcome differs by design, if it does.
    """

    area: str
    name: str
    steps: tuple[Step, ...]
    data: tuple[Mapping[str, Any], ...] = ()
    fail: Mapping[str, Any] | None = None
    refused: str = ""
    differs: str = ""


def _case(area: str, name: str, *steps: Step, data: Any = THREE, **options: Any) -> Case:
    return Case(area, name, steps, tuple(data), **options)


READS: Mapping[str, Step] = {
    "find": ("find", {"filter": {"_id": {"$gt": 1}}}),
    "find_one": ("find_one", {"filter": {"_id": 2}}),
    "aggregate": ("aggregate", {"pipeline": [{"$match": {"_id": {"$gt": 1}}}]}),
    "count_documents": ("count_documents", {"filter": {"_id": {"$gt": 1}}}),
    "distinct": ("distinct", {"key": "x"}),
}
WRITES: Mapping[str, Step] = {
    "insert_one": ("insert_one", {"document": {"_id": 4, "x": 44}}),
    "insert_many": ("insert_many", {"documents": [{"_id": 4, "x": 44}, {"_id": 5, "x": 55}]}),
    "update_one": ("update_one", {"filter": {"_id": 1}, "update": {"$inc": {"x": 1}}}),
    "update_one by another field": (
        "update_one",
        {"filter": {"x": {"$gt": 11}}, "update": {"$inc": {"x": 1}}},
    ),
    "replace_one": ("replace_one", {"filter": {"_id": 1}, "replacement": {"x": 111}}),
    "delete_one": ("delete_one", {"filter": {"_id": 1}}),
    "find_one_and_update": (
        "find_one_and_update",
        {"filter": {"_id": 1}, "update": {"$inc": {"x": 1}}},
    ),
    "find_one_and_replace": (
        "find_one_and_replace",
        {"filter": {"_id": 1}, "replacement": {"x": 111}},
    ),
    "find_one_and_delete": ("find_one_and_delete", {"filter": {"_id": 1}}),
    "bulk_write": (
        "bulk_write",
        {
            "requests": [
                ("InsertOne", {"document": {"_id": 4, "x": 44}}),
                ("UpdateOne", {"filter": {"_id": 1}, "update": {"$inc": {"x": 1}}}),
                ("DeleteOne", {"filter": {"_id": 2}}),
            ]
        },
    ),
}
MULTIPLE: Mapping[str, Step] = {
    "update_many": ("update_many", {"filter": {"x": {"$gt": 11}}, "update": {"$inc": {"x": 1}}}),
    "delete_many": ("delete_many", {"filter": {"x": {"$gt": 11}}}),
    "bulk_write of many": (
        "bulk_write",
        {"requests": [("UpdateMany", {"filter": {}, "update": {"$inc": {"x": 1}}})]},
    ),
}
ALL = {**READS, **WRITES, **MULTIPLE}
COMMANDS: Mapping[str, str] = {
    "count_documents": "aggregate",
    "find_one": "find",
    "insert_one": "insert",
    "insert_many": "insert",
    "update_one": "update",
    "update_one by another field": "update",
    "update_many": "update",
    "replace_one": "update",
    "delete_one": "delete",
    "delete_many": "delete",
    "bulk_write": "insert",
    "bulk_write of many": "update",
    "find_one_and_update": "findAndModify",
    "find_one_and_replace": "findAndModify",
    "find_one_and_delete": "findAndModify",
}


def crud() -> Iterator[Case]:
    """Yield each operation, with what it may be told."""
    for name, step in ALL.items():
        yield _case("crud", name, step)
        yield _case("crud", f"{name} on nothing", step, data=())
        yield _case("crud", f"{name} with a comment", (step[0], {**step[1], "comment": {"k": "v"}}))
    up = {"update": {"$set": {"x": 1}}, "upsert": True}
    for method in ("update_one", "update_many", "find_one_and_update"):
        yield _case("crud", f"{method} upserts", (method, {"filter": {"_id": 9}, **up}))
        yield _case(
            "crud", f"{method} upserts what is there", (method, {"filter": {"_id": 2}, **up})
        )
        let = {"filter": {"$expr": {"$eq": ["$_id", "$$id"]}}, "let": {"id": 2}}
        yield _case("crud", f"{method} with let", (method, {**let, "update": [{"$set": {"x": 1}}]}))
        yield _case(
            "crud",
            f"{method} with array filters",
            (
                method,
                {
                    "filter": {},
                    "update": {"$set": {"a.$[i].b": 2}},
                    "array_filters": [{"i.b": 1}],
                },
            ),
            data=[{"_id": 1, "a": [{"b": 1}, {"b": 3}]}],
        )
        yield _case(
            "crud", f"{method} without operators", (method, {"filter": {}, "update": {"x": 1}})
        )
        yield _case("crud", f"{method} with nothing", (method, {"filter": {}, "update": {}}))
    for method in ("replace_one", "find_one_and_replace"):
        yield _case(
            "crud",
            f"{method} upserts",
            (method, {"filter": {"_id": 9}, "replacement": {"x": 1}, "upsert": True}),
        )
        yield _case(
            "crud",
            f"{method} with operators",
            (method, {"filter": {}, "replacement": {"$set": {"x": 1}}}),
        )
        yield _case(
            "crud",
            f"{method} with a dotted name",
            (method, {"filter": {"_id": 1}, "replacement": {"a.b": 1}}),
        )
        yield _case(
            "crud",
            f"{method} with a dollar below",
            (method, {"filter": {"_id": 1}, "replacement": {"a": {"$b": 1}}}),
        )
        yield _case(
            "crud",
            f"{method} with a dollar name",
            (method, {"filter": {"_id": 1}, "replacement": {"a": 1, "$b": 1}}),
            differs="it is refused before it is sent; MongoDB refuses it",
        )
    for method in ("find_one_and_update", "find_one_and_replace", "find_one_and_delete"):
        what = {
            "find_one_and_update": {"update": {"$inc": {"x": 1}}, "return_document": True},
            "find_one_and_replace": {"replacement": {"x": 0}, "return_document": True},
        }.get(method, {})
        options = {"filter": {}, **what, "sort": [("x", -1)], "projection": {"x": 1, "_id": 0}}
        yield _case("crud", f"{method} sorted and projected", (method, options))
        yield _case("crud", f"{method} with a hint", (method, {**options, "hint": "_id_"}))
        yield _case("crud", f"{method} with a hint to nothing", (method, {**options, "hint": "no"}))
    document_names = {
        "a dollar name": {"$a": 1},
        "an operator's name": {"$set": {"x": 1}},
        "a dollar name after another": {"a": 1, "$b": 2},
        "a dotted name": {"a.b": 1},
        "a dollar below": {"a": {"$b": 1}},
        "a dot below": {"a": {"b.c": 1}},
        "a reference's names": {"a": {"$ref": "c", "$id": 1, "$db": "d"}},
        "an unfinished reference": {"a": {"$ref": "c"}},
        "an empty name": {"": 1},
        "a dotted _id": {"_id": {"a.b": 1}},
        "a dollar _id": {"_id": {"$a": 1}},
    }
    for name, document in document_names.items():
        given = {"_id": 4, **document}
        yield _case("crud", f"insert_one with {name}", ("insert_one", {"document": given}))
        yield _case("crud", f"insert_many with {name}", ("insert_many", {"documents": [given]}))
    set_field = [
        {
            "$replaceWith": {
                "$setField": {"field": {"$literal": "$a"}, "value": 1, "input": "$$ROOT"}
            }
        }
    ]
    for method in ("update_one", "update_many", "find_one_and_update"):
        yield _case(
            "crud", f"{method} sets a dollar name", (method, {"filter": {}, "update": set_field})
        )
    finds = {
        "sorted": {"sort": [("x", -1)]},
        "sorted by nothing": {"sort": []},
        "a page": {"sort": [("_id", 1)], "skip": 1, "limit": 1},
        "a single batch": {"limit": -2, "sort": [("_id", 1)]},
        "in batches": {"batch_size": 2, "sort": [("_id", 1)]},
        "projected": {"projection": {"x": 1, "_id": 0}},
        "hinted": {"hint": [("_id", 1)]},
        "bounded": {"hint": [("_id", 1)], "min": [("_id", 2)], "max": [("_id", 3)]},
        "on disk": {"allow_disk_use": True},
        "with let": {"filter": {"$expr": {"$eq": ["$_id", "$$n"]}}, "let": {"n": 2}},
        "without a timeout of cursors": {"no_cursor_timeout": False},
        "without a limit of time": {"max_time_ms": 0},
    }
    for name, options in finds.items():
        yield _case("crud", f"find {name}", ("find", {"filter": {}, **options}))
    for name, why in {
        "no_cursor_timeout": "a cursor that never ends holds the server's memory",
        "allow_partial_results": "a result that silently lacks documents is no result",
        "return_key": "it would return index entries instead of documents",
        "show_record_id": "it would return the server's internal ids",
    }.items():
        yield _case("crud", f"find with {name}", ("find", {"filter": {}, name: True}), refused=why)
    for step in (WRITES["insert_one"], WRITES["update_one"], WRITES["bulk_write"]):
        yield _case(
            "crud",
            f"{step[0]} past validation",
            (step[0], {**step[1], "bypass_document_validation": True}),
            refused="a collection's validation is there to be kept",
        )
        yield _case(
            "crud",
            f"{step[0]} not past validation",
            (step[0], {**step[1], "bypass_document_validation": False}),
        )
    twice = [{"_id": 4}, {"_id": 1}, {"_id": 5}]
    for ordered in (True, False):
        yield _case(
            "crud",
            f"insert_many stops at an error: {ordered}",
            ("insert_many", {"documents": twice, "ordered": ordered}),
        )
        yield _case(
            "crud",
            f"bulk_write stops at an error: {ordered}",
            (
                "bulk_write",
                {
                    "requests": [("InsertOne", {"document": one}) for one in twice],
                    "ordered": ordered,
                },
            ),
        )
    yield _case("crud", "insert_one of what is there", ("insert_one", {"document": {"_id": 1}}))
    yield _case("crud", "bulk_write of nothing", ("bulk_write", {"requests": []}))
    yield _case("crud", "insert_many of nothing", ("insert_many", {"documents": []}))
    yield _case(
        "crud",
        "estimated_document_count",
        ("estimated_document_count", {}),
        differs="it counts by the stamp where MongoDB does not hold it",
    )
    for name, stage in {"$out": "copies", "$merge": {"into": "copies"}}.items():
        yield _case(
            "crud",
            f"aggregate with {name}",
            ("aggregate", {"pipeline": [{name: stage}]}),
            ("@copies", {}),
        )
    yield _case(
        "crud",
        "aggregate in batches",
        ("aggregate", {"pipeline": [{"$sort": {"x": 1}}], "batchSize": 2}),
    )
    yield _case(
        "crud",
        "aggregate with JavaScript",
        ("aggregate", {"pipeline": [{"$match": {"$where": "true"}}]}),
        refused="no JavaScript runs on a shared server",
    )
    yield _case(
        "crud",
        "count_documents of a page",
        ("count_documents", {"filter": {}, "skip": 1, "limit": 1}),
    )


def collation() -> Iterator[Case]:
    """Yield each operation that compares texts, with a collation and without."""
    weak = {"locale": "en_US", "strength": 2}
    ping = {"w": "PING"}
    steps: Mapping[str, Mapping[str, Any]] = {
        "find": {"filter": ping},
        "find_one": {"filter": ping},
        "aggregate": {"pipeline": [{"$match": ping}]},
        "count_documents": {"filter": ping},
        "distinct": {"key": "w"},
        "update_one": {"filter": ping, "update": {"$set": {"n": 1}}},
        "update_many": {"filter": ping, "update": {"$set": {"n": 1}}},
        "replace_one": {"filter": ping, "replacement": {"w": "x"}},
        "delete_one": {"filter": ping},
        "delete_many": {"filter": ping},
        "find_one_and_update": {"filter": ping, "update": {"$set": {"n": 1}}},
        "find_one_and_replace": {"filter": ping, "replacement": {"w": "x"}},
        "find_one_and_delete": {"filter": ping},
    }
    for method, arguments in steps.items():
        yield _case("collation", f"{method} without", (method, arguments), data=WORDS)
        yield _case(
            "collation", f"{method} with", (method, {**arguments, "collation": weak}), data=WORDS
        )
        yield _case(
            "collation",
            f"{method} with a wrong one",
            (method, {**arguments, "collation": {"locale": "??"}}),
            data=WORDS,
        )
    for kind in ("UpdateOne", "UpdateMany", "ReplaceOne", "DeleteOne", "DeleteMany"):
        given: dict[str, Any] = {"filter": ping, "collation": weak}
        if kind.startswith("Update"):
            given["update"] = {"$set": {"n": 1}}
        elif kind == "ReplaceOne":
            given["replacement"] = {"w": "x"}
        yield _case(
            "collation",
            f"bulk_write of {kind}",
            ("bulk_write", {"requests": [(kind, given)]}),
            data=WORDS,
        )


def transactions() -> Iterator[Case]:
    """Yield each operation in a transaction that commits, aborts or is given options."""
    start, commit, abort = ("@start", {}), ("@commit", {}), ("@abort", {})
    for name, (method, arguments) in ALL.items():
        step = (method, {**arguments, "session": "@"})
        yield _case("transactions", f"{name} is committed", start, step, commit)
        yield _case("transactions", f"{name} is aborted", start, step, abort)
    insert = ("insert_one", {"document": {"_id": 4}, "session": "@"})
    for name, options in {
        "a read concern": {"read_concern": "majority"},
        "a snapshot": {"read_concern": "snapshot"},
        "a write concern": {"write_concern": 1},
        "a majority": {"write_concern": "majority"},
        "a read preference": {"read_preference": "primary"},
        "a time for the commit": {"max_commit_time_ms": 5000},
        "all of them": {
            "read_concern": "snapshot",
            "write_concern": "majority",
            "read_preference": "primary",
            "max_commit_time_ms": 5000,
        },
        "secondaries to read": {"read_preference": "secondary"},
        "an unacknowledged write": {"write_concern": 0},
    }.items():
        yield _case("transactions", f"started with {name}", ("@start", options), insert, commit)
        yield _case(
            "transactions",
            f"with {name} by default",
            ("@session", {"defaults": options}),
            start,
            insert,
            commit,
        )
        yield _case("transactions", f"run with {name}", ("@run", {**options, "step": insert}))
    yield _case("transactions", "committed twice", start, insert, commit, commit)
    yield _case("transactions", "aborted twice", start, insert, abort, abort)
    yield _case("transactions", "aborted after a commit", start, insert, commit, abort)
    yield _case("transactions", "committed after an abort", start, insert, abort, commit)
    yield _case("transactions", "started twice", start, start)
    yield _case("transactions", "committed without a start", ("@session", {}), insert, commit)
    yield _case("transactions", "empty and committed", start, commit)
    yield _case("transactions", "empty and aborted", start, abort)
    yield _case("transactions", "one after another", start, insert, abort, start, insert, commit)
    duplicate = ("insert_one", {"document": {"_id": 1}, "session": "@"})
    yield _case("transactions", "with an error of the data", start, insert, duplicate, abort)
    yield _case("transactions", "left without an end", start, insert, ("@end", {}))
    for times, code, labels in ((1, 91, []), (2, 91, []), (1, 50, []), (1, 64, []), (1, 20, [])):
        for command, end in (("commitTransaction", commit), ("abortTransaction", abort)):
            yield _case(
                "transactions",
                f"{command} fails {times} times with {code}",
                start,
                insert,
                end,
                fail=_failing(command, times, code=code, labels=labels),
                differs="max_time_ms of the engine ends it" if code == 50 else "",
            )
    for times in (1, 2):
        yield _case(
            "transactions",
            f"the connection ends {times} times at the commit",
            start,
            insert,
            commit,
            fail=_failing("commitTransaction", times),
        )
    yield _case(
        "transactions",
        "the connection ends in it",
        start,
        insert,
        abort,
        fail=_failing("insert", 1),
    )
    for times in (1, 3):
        yield _case(
            "transactions",
            f"run although it was in the way {times} times",
            ("@run", {"step": insert}),
            fail=_failing("insert", times, code=251, labels=["TransientTransactionError"]),
        )


def _failing(
    command: str, times: int, *, code: int | None = None, labels: list[str] | None = None
) -> Mapping[str, Any]:
    data: dict[str, Any] = {"failCommands": [command]}
    if code is None:
        data["closeConnection"] = True
    else:
        data["errorCode"] = code
        if labels:
            data["errorLabels"] = labels
    return {"mode": {"times": times}, "data": data}


def retries() -> Iterator[Case]:
    """Yield each operation that fails once, twice and with an error that is not repeated."""
    for name, step in ALL.items():
        command = COMMANDS.get(name, name)
        write = name not in READS
        labels = ["RetryableWriteError"] if write else None
        for times in (1, 2, 3):
            yield _case(
                "retries",
                f"{name} loses the connection {times} times",
                step,
                fail=_failing(command, times),
            )
        for times in (1, 2):
            yield _case(
                "retries",
                f"{name} meets a changed primary {times} times",
                step,
                fail=_failing(command, times, code=10107, labels=labels),
            )
        yield _case(
            "retries", f"{name} meets an error that stays", step, fail=_failing(command, 1, code=8)
        )


def sessions() -> Iterator[Case]:
    """Yield operations in sessions: causally consistent, of one snapshot, ended."""
    for name, (method, arguments) in ALL.items():
        step = (method, {**arguments, "session": "@"})
        yield _case("sessions", f"{name} in a session", ("@session", {}), step, ("@end", {}))
        yield _case(
            "sessions", f"{name} in one that has ended", ("@session", {}), ("@end", {}), step
        )
    for name, (method, arguments) in READS.items():
        read = (method, {**arguments, "session": "@"})
        write = ("insert_one", {"document": {"_id": 4, "x": 44}})
        inside = ("insert_one", {**write[1], "session": "@"})
        for causal in (None, True, False):
            yield _case(
                "sessions",
                f"{name} after a write, causally: {causal}",
                ("@session", {"causal_consistency": causal}),
                inside,
                read,
            )
        if name in {"find", "aggregate", "distinct", "find_one", "count_documents"}:
            yield _case(
                "sessions",
                f"{name} of a snapshot",
                ("@session", {"snapshot": True}),
                read,
                write,
                read,
            )
    yield _case(
        "sessions",
        "a snapshot and causal",
        ("@session", {"snapshot": True, "causal_consistency": True}),
    )
    snapshot = ("@session", {"snapshot": True})
    inside = ("insert_one", {"document": {"_id": 4}, "session": "@"})
    yield _case("sessions", "a write in a snapshot", snapshot, inside)
    yield _case("sessions", "a transaction in a snapshot", snapshot, ("@start", {}))
    yield _case("sessions", "ended twice", ("@session", {}), ("@end", {}), ("@end", {}))


def change_streams() -> Iterator[Case]:
    """Yield what a stream shows of each kind of change, and how it may be asked for."""
    for name, step in {**WRITES, **MULTIPLE}.items():
        if name in {"delete_one", "find_one_and_delete", "delete_many", "bulk_write"}:
            continue
        yield _case("change streams", f"of {name}", ("@watch", {}), step, ("@changes", {}))
    for name in ("delete_one", "find_one_and_delete", "delete_many", "bulk_write"):
        step = {**WRITES, **MULTIPLE}[name]
        yield _case("change streams", f"of {name}", ("@watch", {}), step, ("@changes", {}))
    change = WRITES["insert_one"]
    update = WRITES["update_one"]
    for name, options in {
        "the whole document": {"full_document": "updateLookup"},
        "a match": {"pipeline": [{"$match": {"operationType": "insert"}}]},
        "a projection": {"pipeline": [{"$project": {"documentKey": 1, "operationType": 1}}]},
        "an added field": {"pipeline": [{"$addFields": {"more": 1}}]},
        "a batch size": {"batch_size": 1},
        "a comment": {"comment": "why"},
        "a collation": {"collation": {"locale": "en"}},
        "a stage that is none": {"pipeline": [{"$unsupported": 1}]},
        "a group": {"pipeline": [{"$group": {"_id": 1}}]},
    }.items():
        yield _case(
            "change streams", f"with {name}", ("@watch", options), change, update, ("@changes", {})
        )
    yield _case(
        "change streams",
        "resumed",
        ("@watch", {}),
        change,
        ("@changes", {}),
        ("@resume", {}),
        update,
        ("@changes", {}),
    )
    for times in (1, 2):
        for command in ("aggregate", "getMore"):
            yield _case(
                "change streams",
                f"{command} loses the connection {times} times",
                ("@watch", {}),
                change,
                ("@changes", {}),
                fail=_failing(command, times),
            )


CASES: tuple[Case, ...] = tuple(
    case
    for area in (crud, collation, transactions, retries, sessions, change_streams)
    for case in area()
)

AREAS: Mapping[str, tuple[int, int, int]] = {
    area: (
        len(cases := [case for case in CASES if case.area == area]),
        sum(bool(case.refused) for case in cases),
        sum(bool(case.differs) for case in cases),
    )
    for area in dict.fromkeys(case.area for case in CASES)
}
"""By area: how many cases there are, are refused by design, and differ by design."""
