"""The plan of a sync: what is sent, what is deleted, and above all what is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.agent import changes
from colabdev.agent.tree import Entry
from colabdev.core.reconcile import (
    TWO_WAY,
    Action,
    Conflict,
    Mode,
    Plan,
    Prefer,
    Remote,
    RemoteFile,
    choose_mode,
    plan_sync,
)
from colabdev.errors import UsageError
from colabdev.models import Absence


def file(path: str, content: str, *, executable: bool = False) -> Entry:
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Entry(path, "file", executable, len(content), 1, digest)


def link(path: str, target: str) -> Entry:
    digest = hashlib.sha256(target.encode()).hexdigest()
    return Entry(path, "link", False, len(target), 1, digest, target)


def mark(entry: Entry | str | None) -> str:
    """A fingerprint; "?" and None as they are on the runtime."""
    if entry is None:
        return ""
    return entry if isinstance(entry, str) else entry.fingerprint


OLD, NEW, OTHER = file("f", "old"), file("f", "new"), file("f", "other")
RUN = file("f", "old", executable=True)
LINK = link("f", "old")

ONE_WAY, MIRROR = Mode(one_way=True), Mode(one_way=True, mirror=True)
LOCAL, REMOTE = Mode(Prefer.LOCAL), Mode(Prefer.REMOTE)
SIDES = dict[str, Entry]

CASES: list[tuple[str, Entry | None, Entry | None, Entry | str | None, dict[Mode, str]]] = [
    # what, here, as both sides last had it, there, what is done: "<" is done here
    ("unchanged", OLD, OLD, OLD, {TWO_WAY: "", MIRROR: ""}),
    ("new here", NEW, None, None, {TWO_WAY: "send", ONE_WAY: "send"}),
    ("new link here", LINK, None, None, {TWO_WAY: "link"}),
    ("new there", None, None, NEW, {TWO_WAY: "< send", ONE_WAY: "", MIRROR: "delete"}),
    ("new link there", None, None, LINK, {TWO_WAY: "< link"}),
    ("the same, new on both sides", NEW, None, NEW, {TWO_WAY: "keep", ONE_WAY: "keep"}),
    (
        *("others, new on both sides", NEW, None, OTHER),
        {TWO_WAY: "conflict", ONE_WAY: "conflict", LOCAL: "send", REMOTE: "< send", MIRROR: "send"},
    ),
    ("edited here", NEW, OLD, OLD, {TWO_WAY: "send", REMOTE: "send", ONE_WAY: "send"}),
    ("made executable here", RUN, OLD, OLD, {TWO_WAY: "chmod"}),
    ("not executable any more", OLD, RUN, RUN, {TWO_WAY: "chmod"}),
    ("file became a link here", LINK, OLD, OLD, {TWO_WAY: "link"}),
    ("link became a file here", OLD, LINK, LINK, {TWO_WAY: "send"}),
    (
        *("edited there", OLD, OLD, OTHER),
        {TWO_WAY: "< send", LOCAL: "< send", ONE_WAY: "conflict", MIRROR: "send"},
    ),
    ("made executable there", OLD, OLD, RUN, {TWO_WAY: "< chmod", ONE_WAY: "conflict"}),
    ("file became a link there", OLD, OLD, LINK, {TWO_WAY: "< link"}),
    (
        *("edited on both sides", NEW, OLD, OTHER),
        {TWO_WAY: "conflict", LOCAL: "send", REMOTE: "< send", ONE_WAY: "conflict"},
    ),
    ("edited the same on both sides", NEW, OLD, NEW, {TWO_WAY: "keep", ONE_WAY: "keep"}),
    ("deleted here", None, OLD, OLD, {TWO_WAY: "delete", ONE_WAY: "delete"}),
    (
        *("deleted there", OLD, OLD, None),
        {TWO_WAY: "< delete", LOCAL: "< delete", ONE_WAY: "send", MIRROR: "send"},
    ),
    ("deleted on both sides", None, OLD, None, {TWO_WAY: "forget", ONE_WAY: "forget"}),
    (
        *("deleted here, edited there", None, OLD, OTHER),
        {TWO_WAY: "< send", LOCAL: "delete", REMOTE: "< send", ONE_WAY: "conflict"},
    ),
    (
        *("deleted there, edited here", NEW, OLD, None),
        {TWO_WAY: "send", LOCAL: "send", REMOTE: "< delete", ONE_WAY: "send"},
    ),
    ("cannot be told there", OLD, OLD, "?", {TWO_WAY: "", LOCAL: "", REMOTE: "", MIRROR: ""}),
    ("cannot be told there, edited here", NEW, OLD, "?", {TWO_WAY: "", LOCAL: "", MIRROR: ""}),
    ("cannot be told there, deleted here", None, OLD, "?", {TWO_WAY: "", LOCAL: ""}),
]


def plan(
    local: SIDES,
    placed: SIDES,
    there: dict[str, Entry | str],
    mode: Mode = TWO_WAY,
    absence: Absence = Absence.GONE,
    *,
    replaced: bool = False,
) -> Plan:
    """The plan for these files here, as both sides last had them, and there."""
    paths = {*placed, *there}
    files = {path: RemoteFile(mark(placed.get(path)), mark(there.get(path))) for path in paths}
    changed = {
        path: entry
        for path, entry in there.items()
        if isinstance(entry, Entry) and mark(entry) != mark(placed.get(path))
    }
    absences = dict.fromkeys(paths - set(local), absence)
    return plan_sync(local, Remote(files, changed), absences, mode, replaced=replaced)


def one(entry: Entry | str | None) -> dict[str, Any]:
    return {} if entry is None else {"f": entry}


def words(plan: Plan) -> list[str]:
    """What is done, shortly."""
    return [
        *(f"< {action.change.op}" for action in plan.here),
        *(action.change.op for action in plan.there),
        *("conflict" for _ in plan.conflicts),
    ]


@pytest.mark.parametrize(
    ("local", "placed", "now", "mode", "expected"),
    [
        pytest.param(local, placed, now, mode, expected, id=f"{what}, {mode}")
        for what, local, placed, now, outcomes in CASES
        for mode, expected in outcomes.items()
    ],
)
def test_one_file(
    local: Entry | None, placed: Entry | None, now: Entry | str | None, mode: Mode, expected: str
) -> None:
    made = plan(one(local), one(placed), one(now), mode)
    assert words(made) == ([expected] if expected else [])


def test_what_is_expected_before_a_change_is_what_was_seen_there() -> None:
    assert plan({"f": NEW}, {"f": OLD}, {"f": OLD}).there[0].change.expected == mark(OLD)
    assert plan({"f": OLD}, {"f": OLD}, {"f": NEW}).here[0].change.expected == mark(OLD)


def test_conflict_says_what_happened_on_each_side() -> None:
    assert plan({"f": NEW}, {"f": OLD}, {"f": OTHER}).conflicts == (
        Conflict("f", "edited", "edited"),
    )
    assert plan({"f": NEW}, {}, {"f": OTHER}).conflicts == (Conflict("f", "new", "created"),)


def test_file_that_is_ignored_now_stays_and_is_not_ours() -> None:
    made = plan({}, {"f": OLD}, {"f": OTHER}, absence=Absence.IGNORED)
    assert [(action.op, action.reason) for action in made.there] == [
        ("forget", "ignored now; stays on the runtime")
    ]


def test_file_that_cannot_be_looked_at_is_left_alone() -> None:
    for there in (OLD, OTHER):
        assert words(plan({}, {"f": OLD}, {"f": there}, absence=Absence.UNKNOWN)) == []


def named(*paths: str) -> SIDES:
    return {path: file(path, path) for path in paths}


def order(actions: Iterable[Action]) -> list[tuple[str, str]]:
    return [(action.change.op, action.path) for action in actions]


def test_what_makes_room_goes_first_and_other_deletions_last() -> None:
    now = named("was_folder", "was_file/x", "renamed")
    old = named("was_folder/y", "was_file", "z_old_name", "a_old_name")
    expected = [
        ("delete", "was_file"),
        ("delete", "was_folder/y"),
        ("send", "renamed"),
        ("send", "was_file/x"),
        ("send", "was_folder"),
        ("delete", "a_old_name"),
        ("delete", "z_old_name"),
    ]
    assert order(plan(now, old, dict(old)).there) == expected
    assert order(plan(old, old, dict(now)).here) == expected


def test_known_content_is_copied_before_its_source_goes() -> None:
    content = "as long as it takes to be worth it" * 3
    old = {"a": file("a", content), "b": file("b", content + "!")}
    moved = {"d/a": file("d/a", content), "b": file("b", content + "!")}
    expected = [("copy", "d/a"), ("delete", "a")]
    assert order(plan(moved, old, dict(old)).there) == expected
    assert order(plan(old, old, dict(moved)).here) == expected


def test_contents_that_change_places_are_sent() -> None:
    """None of them goes on to stand where it could be copied from."""
    one, two = "one as long as it takes" * 4, "two as long as it takes" * 4
    old = {"a": file("a", one), "b": file("b", two)}
    now = {"a": file("a", two), "b": file("b", one)}
    assert order(plan(now, old, dict(old)).there) == [("send", "a"), ("send", "b")]


def guarded(owned: int, kept: int, *, moved: int = 0, created: int = 0, here: bool = False) -> str:
    """The guard's words when of so many files so many are still there on the side that lost some."""
    entries = [file(f"f{number}", f"content {number}") for number in range(owned)]
    placed = {entry.path: entry for entry in entries}
    left = {entry.path: entry for entry in entries[:kept]}
    left |= {f"m{e.path}": e._replace(path=f"m{e.path}") for e in entries[kept : kept + moved]}
    left |= {f"new{number}": file(f"new{number}", f"new {number}") for number in range(created)}
    if here:
        return plan(placed, placed, dict(left)).guard
    return plan(left, placed, dict(placed)).guard


def test_emptied_or_replaced_root_halts() -> None:
    assert guarded(1, 0) == ""
    assert guarded(2, 0) == (
        "2 of the 2 files that sync put there would be deleted on the runtime ('f0', 'f1')"
    )
    assert guarded(5, 0, created=3).startswith("5 of the 5 files")
    assert guarded(2, 1) == ""
    assert guarded(2, 0, here=True) == (
        "2 of the 2 files of the project would be deleted here ('f0', 'f1')"
    )
    assert guarded(1, 0, here=True) == guarded(2, 1, here=True) == ""


@pytest.mark.parametrize("here", [False, True])
def test_many_deletions_halt(here: bool) -> None:
    assert guarded(9, 1, here=here) == ""
    assert guarded(10, 5, here=here) == ""
    assert guarded(10, 4, here=here).startswith("6 of the 10 files")
    assert guarded(10, 0, here=here).endswith("('f0', 'f1', 'f2', …)")


@pytest.mark.parametrize("here", [False, True])
def test_moved_files_are_no_accident(here: bool) -> None:
    assert guarded(20, 0, moved=20, here=here) == ""
    assert guarded(20, 5, moved=10, here=here) == ""


def test_another_folder_with_another_content_halts() -> None:
    old = named("a", "b", "c", "d")
    now = {path: file(path, "another project's") for path in "abc"}
    assert plan(now, old, dict(old)).guard == ""
    assert plan(now, old, dict(old), replaced=True).guard.startswith("1 of the 4 files")
    assert plan(old, old, dict(old), replaced=True).guard == ""


def test_mode_is_checked() -> None:
    assert choose_mode(None, one_way=False, mirror=False) == TWO_WAY
    assert choose_mode("local", one_way=True, mirror=True) == Mode(
        Prefer.LOCAL, one_way=True, mirror=True
    )
    for words in [("mine", False, False), (None, False, True), ("remote", True, False)]:
        with pytest.raises(UsageError):
            choose_mode(words[0], one_way=words[1], mirror=words[2])


PATHS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("/".join)
ENTRIES = st.sampled_from([OLD, NEW, OTHER, RUN, LINK])
TREES = st.dictionaries(PATHS, ENTRIES, max_size=6).map(
    lambda found: {path: entry._replace(path=path) for path, entry in found.items()}
)
MODES = st.sampled_from([TWO_WAY, LOCAL, REMOTE, ONE_WAY, MIRROR])


@given(TREES, TREES, TREES, st.sampled_from([TWO_WAY, ONE_WAY]))
def test_nothing_that_one_side_alone_has_is_lost(
    local: SIDES, placed: SIDES, there: SIDES, mode: Mode
) -> None:
    """What is replaced or deleted is what both sides had; new and edited files are not."""
    made = plan(local, placed, dict(there), mode)
    for action in made.there:
        if action.change.op in changes.PUTS or action.change.op == changes.DELETE:
            lost = mark(there.get(action.path))
            assert lost in ("", mark(placed.get(action.path)))
            assert action.change.expected == lost
    for action in made.here:
        lost = mark(local.get(action.path))
        assert lost in ("", mark(placed.get(action.path)))
        assert action.change.expected == lost
    handled = [action.path for action in (*made.here, *made.there)]
    handled += [conflict.path for conflict in made.conflicts]
    assert len(handled) == len(set(handled))


@given(TREES, TREES, TREES, MODES)
def test_plan_once_done_leaves_nothing_to_do(
    local: SIDES, placed: SIDES, there: SIDES, mode: Mode
) -> None:
    made = plan(local, placed, dict(there), mode)
    here, both, far = dict(local), dict(placed), dict(there)
    for action in (*made.here, *made.there):
        for side in (both, here if action.here else far):
            if action.change.entry is None:
                side.pop(action.path, None)
            else:
                side[action.path] = action.change.entry
    again = plan(here, both, dict(far), mode)
    assert words(again) == ["conflict"] * len(made.conflicts)
    if mode in (TWO_WAY, MIRROR) and not made.conflicts:
        assert here == far
