"""The plan of a sync: what is sent, what is deleted, and above all what is left alone."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.agent import changes
from colabdev.agent.tree import Entry
from colabdev.core.reconcile import Conflict, OwnedFile, Plan, plan_up
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

CASES: list[tuple[str, Entry | None, Entry | None, Entry | str | None, str]] = [
    # what, local, as sync left it, on the runtime now, what is done
    ("new here", NEW, None, None, "send"),
    ("new link here", LINK, None, None, "link"),
    ("unchanged", OLD, OLD, OLD, "nothing"),
    ("edited here", NEW, OLD, OLD, "send"),
    ("made executable", RUN, OLD, OLD, "chmod"),
    ("not executable any more", OLD, RUN, RUN, "chmod"),
    ("file became a link", LINK, OLD, OLD, "link"),
    ("link became a file", OLD, LINK, LINK, "send"),
    ("edited there", OLD, OLD, OTHER, "conflict"),
    ("edited on both sides", NEW, OLD, OTHER, "conflict"),
    ("edited the same on both sides", NEW, OLD, NEW, "keep"),
    ("made executable there", OLD, OLD, RUN, "conflict"),
    ("became a folder there", OLD, OLD, "?", "conflict"),
    ("deleted there", OLD, OLD, None, "send"),
    ("deleted there, edited here", NEW, OLD, None, "send"),
    ("deleted here", None, OLD, OLD, "delete"),
    ("deleted here, edited there", None, OLD, OTHER, "conflict"),
    ("deleted here, a folder there", None, OLD, "?", "conflict"),
    ("deleted on both sides", None, OLD, None, "forget"),
]


@pytest.mark.parametrize(("local", "placed", "now", "expected"), [case[1:] for case in CASES])
def test_one_file(
    local: Entry | None, placed: Entry | None, now: Entry | str | None, expected: str
) -> None:
    owned = {} if placed is None else {"f": OwnedFile(mark(placed), mark(now))}
    plan = plan_up({} if local is None else {"f": local}, owned, {"f": Absence.GONE})
    done = [action.op for action in plan.actions] + ["conflict"] * len(plan.conflicts)
    assert done == ([] if expected == "nothing" else [expected])


def test_conflict_says_what_happened_on_each_side() -> None:
    plan = plan_up({"f": NEW}, {"f": OwnedFile(mark(OLD), mark(OTHER))}, {})
    assert plan.conflicts == (Conflict("f", "edited", "edited"),)
    plan = plan_up({"f": OLD}, {"f": OwnedFile(mark(OLD), "?")}, {})
    assert plan.conflicts == (Conflict("f", "unchanged", "a folder, or no file"),)


def test_file_that_is_ignored_now_stays_and_is_not_ours() -> None:
    plan = plan_up({}, {"f": OwnedFile(mark(OLD), mark(OTHER))}, {"f": Absence.IGNORED})
    assert [(action.op, action.reason) for action in plan.actions] == [
        ("forget", "ignored now; stays on the runtime")
    ]


def test_file_that_cannot_be_looked_at_is_left_alone() -> None:
    plan = plan_up({}, {"f": OwnedFile(mark(OLD), mark(OLD))}, {"f": Absence.UNKNOWN})
    assert plan == Plan((), (), 0, "")


def test_what_makes_room_goes_first_and_other_deletions_last() -> None:
    local = {path: file(path, path) for path in ("was_folder", "was_file/x", "renamed")}
    gone = ("was_folder/y", "was_file", "z_old_name", "a_old_name")
    owned = {path: OwnedFile(mark(file(path, path)), mark(file(path, path))) for path in gone}
    plan = plan_up(local, owned, dict.fromkeys(gone, Absence.GONE))
    assert [(action.op, action.path) for action in plan.actions] == [
        ("delete", "was_file"),
        ("delete", "was_folder/y"),
        ("send", "renamed"),
        ("send", "was_file/x"),
        ("send", "was_folder"),
        ("delete", "a_old_name"),
        ("delete", "z_old_name"),
    ]


def guarded(owned: int, kept: int, *, moved: int = 0, created: int = 0) -> str:
    """The guard's words when of so many files so many are still here."""
    entries = [file(f"f{number}", f"content {number}") for number in range(owned)]
    local = {entry.path: entry for entry in entries[:kept]}
    local |= {f"m{e.path}": e._replace(path=f"m{e.path}") for e in entries[kept : kept + moved]}
    local |= {f"new{number}": file(f"new{number}", f"new {number}") for number in range(created)}
    there = {entry.path: OwnedFile(mark(entry), mark(entry)) for entry in entries}
    absences = {path: Absence.GONE for path in there if path not in local}
    return plan_up(local, there, absences).guard


def test_emptied_or_replaced_root_halts() -> None:
    assert guarded(1, 0) == ""
    assert guarded(2, 0) == "2 of the 2 files that sync put there would be deleted ('f0', 'f1')"
    assert guarded(5, 0, created=3).startswith("5 of the 5 files")
    assert guarded(2, 1) == ""


def test_many_deletions_halt() -> None:
    assert guarded(9, 1) == ""
    assert guarded(10, 5) == ""
    assert guarded(10, 4).startswith("6 of the 10 files")
    assert guarded(10, 0).endswith("('f0', 'f1', 'f2', …)")


def test_moved_files_are_no_accident() -> None:
    assert guarded(20, 0, moved=20) == ""
    assert guarded(20, 5, moved=10) == ""


PATHS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=3).map("/".join)
MARKS = st.sampled_from(["", "?", *(mark(entry) for entry in (OLD, NEW, OTHER, RUN, LINK))])
LOCAL = st.dictionaries(PATHS, st.sampled_from([OLD, NEW, OTHER, RUN, LINK]), max_size=6).map(
    lambda found: {path: entry._replace(path=path) for path, entry in found.items()}
)
OWNED = st.dictionaries(PATHS, st.builds(OwnedFile, MARKS.filter(len), MARKS), max_size=6)


@given(LOCAL, OWNED)
def test_nothing_is_touched_that_is_not_as_sync_left_it(
    local: dict[str, Entry], owned: dict[str, OwnedFile]
) -> None:
    plan = plan_up(local, owned, dict.fromkeys(owned, Absence.GONE))
    for action in plan.actions:
        there = owned.get(action.path, OwnedFile("", ""))
        if action.op == changes.KEEP:
            assert there.now == local[action.path].fingerprint
        else:
            assert there.now in ("", there.placed)
            assert action.change.expected == there.now
    for conflict in plan.conflicts:
        assert owned[conflict.path].now not in ("", owned[conflict.path].placed)
    handled = [action.path for action in plan.actions] + [c.path for c in plan.conflicts]
    assert len(handled) == len(set(handled))


@given(LOCAL, OWNED)
def test_plan_once_done_leaves_nothing_to_do(
    local: dict[str, Entry], owned: dict[str, OwnedFile]
) -> None:
    plan = plan_up(local, owned, dict.fromkeys(owned, Absence.GONE))
    after = dict(owned)
    for action in plan.actions:
        after[action.path] = OwnedFile(action.change.fingerprint, action.change.fingerprint)
        if action.change.entry is None:
            del after[action.path]
    again = plan_up(local, after, dict.fromkeys(after, Absence.GONE))
    assert again.actions == ()
    assert again.conflicts == plan.conflicts
