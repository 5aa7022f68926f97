"""Trees: what is found, what is hashed again, and which names are let in."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colabdev.agent import tree
from colabdev.agent.stamps import Index, Stamp
from colabdev.agent.tree import Entry, HostileName

HOSTILE = [
    "plain.py",
    "-rf",
    "--help",
    "with space",
    " leading",
    "'quote\"s`$(x)",
    "new\nline",
    "tab\there",
    "*?[x]",
    "back\\slash",
    "ünïcödé–✓",
    os.fsdecode(b"not-utf8-\xff\xfe"),
    "x" * 255,
    "~",
    "#",
    "a.git",
]
OLD_NS = 1_600_000_000_123_456_789

DIGEST = st.text("0123456789abcdef", min_size=64, max_size=64)
PART = st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda part: part not in (".", "..", tree.OURS) and part.lower() != ".git"
)
ENTRIES = st.builds(
    Entry,
    path=st.lists(PART, min_size=1, max_size=3).map("/".join),
    kind=st.just(tree.FILE),
    executable=st.booleans(),
    size=st.integers(0, 2**60),
    mtime_ns=st.integers(-(2**60), 2**62),
    digest=DIGEST,
)


def write(root: Path, path: str, content: bytes = b"content", *, old: bool = True) -> Path:
    """A file whose times are settled, unless they are to be new."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    if old:
        os.utime(file, ns=(OLD_NS, OLD_NS))
    return file


def settled_scan(root: Path, paths: list[str], index: Index | None = None) -> tree.Scan:
    """A scan that begins when all that was written before counts as old."""
    time.sleep(0.08)
    return tree.scan(str(root), paths, index or Index())


def test_scan_describes_files_and_links(tmp_path: Path) -> None:
    write(tmp_path, "a/run.sh", b"#!").chmod(0o755)
    write(tmp_path, "empty", b"")
    (tmp_path / "link").symlink_to("a/run.sh")
    scan = tree.scan(str(tmp_path), ["a/run.sh", "empty", "link", "missing"], Index())
    assert scan.problems == []
    run, empty, link = scan.entries
    assert run[:4] == ("a/run.sh", "file", True, 2)
    assert (empty.size, empty.executable, empty.mtime_ns) == (0, False, OLD_NS)
    assert (link.kind, link.target) == ("link", "a/run.sh")
    assert link.digest == tree.digest_of_target("a/run.sh")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_found(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    (entry,) = tree.scan(str(tmp_path), [name], Index()).entries
    assert entry.path == name
    assert tree.entry_from_row(tree.entry_to_row(entry)) == entry
    assert len(tree.hash_entries([entry])) == 64


def test_what_is_no_file_is_a_problem_and_the_rest_is_found(tmp_path: Path) -> None:
    write(tmp_path, "fine")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "out").symlink_to("../elsewhere")
    (tmp_path / "absolute").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        paths = ["fine", "fifo", "socket", "out", "absolute", "folder"]
        scan = tree.scan(str(tmp_path), paths, Index())
    assert [entry.path for entry in scan.entries] == ["fine"]
    assert scan.folders == ["folder"]
    assert dict(scan.problems) == {
        "fifo": "is a socket, a FIFO or a device",
        "socket": "is a socket, a FIFO or a device",
        "out": "points out of the project, to '../elsewhere'",
        "absolute": "points out of the project, to '/etc/passwd'",
    }


def test_large_file_is_named_and_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(300_000_001)
    scan = tree.scan(str(tmp_path), ["big"], Index(), tree.Limits(200_000_000))
    assert scan.problems == [("big", "is large; colabdev sync --max-size 301M takes it along")]
    assert scan.hashed == 0


def test_what_lies_behind_a_linked_folder_does_not_exist(tmp_path: Path) -> None:
    write(tmp_path, "real/file")
    (tmp_path / "linked").symlink_to("real")
    assert tree.scan(str(tmp_path), ["linked/file"], Index()).entries == []


def test_unchanged_files_are_not_read_again(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"f{i}", b"x").name for i in range(20)]
    first = settled_scan(tmp_path, paths)
    second = settled_scan(tmp_path, paths, first.stamps)
    assert (first.hashed, second.hashed) == (20, 0)
    assert second.entries == first.entries


@pytest.mark.parametrize("way", ["size", "mtime", "ctime", "inode"])
def test_changed_file_is_read_again(tmp_path: Path, way: str) -> None:
    file = write(tmp_path, "f", b"old")
    first = settled_scan(tmp_path, ["f"])
    if way == "size":
        write(tmp_path, "f", b"newer")
    elif way == "mtime":
        write(tmp_path, "f", b"new", old=False)
    elif way == "ctime":  # Same size and time, put back by hand.
        write(tmp_path, "f", b"new")
    else:
        write(tmp_path, "g", b"new").replace(file)
    second = settled_scan(tmp_path, ["f"], first.stamps)
    assert second.hashed == 1
    assert second.entries[0].digest != first.entries[0].digest


def test_edit_in_the_same_tick_as_the_scan_is_found(tmp_path: Path) -> None:
    """Same size, perhaps the same times: right after it was written a hash is not kept."""
    for number in range(100, 200):
        write(tmp_path, "f", b"%d" % number, old=False)
        first = tree.scan(str(tmp_path), ["f"], Index())
        write(tmp_path, "f", b"%d" % (number + 100), old=False)
        second = tree.scan(str(tmp_path), ["f"], first.stamps)
        assert second.entries[0].digest != first.entries[0].digest


def test_whole_second_times_are_settled_later(tmp_path: Path) -> None:
    """As on file systems that know no fractions: an edit within that second would not show."""
    file = write(tmp_path, "f")
    status = file.stat()
    began_ns = status.st_ctime_ns + 1_000_000_000
    assert tree.is_settled(status, began_ns)
    whole_ns = status.st_ctime_ns // 10**9 * 10**9
    values = list(status)
    coarse = os.stat_result(values, {"st_mtime_ns": whole_ns, "st_ctime_ns": whole_ns})
    assert not tree.is_settled(coarse, whole_ns + 1_900_000_000)
    assert tree.is_settled(coarse, whole_ns + 2_100_000_000)


def test_file_of_the_future_is_always_read(tmp_path: Path) -> None:
    file = write(tmp_path, "f")
    future_ns = time.time_ns() + 10**12
    os.utime(file, ns=(future_ns, future_ns))
    first = settled_scan(tmp_path, ["f"])
    assert settled_scan(tmp_path, ["f"], first.stamps).hashed == 1


@pytest.mark.parametrize(
    "name",
    [
        *["", "/etc", "..", "../x", "a/../b", "a//b", "a/", "./a", "a\0b", ".colabdev/owned.json"],
        *[".git/hooks/post-checkout", "sub/.git/config", "sub/.GIT/config"],
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(HostileName):
        tree.check_name(name)
    with pytest.raises(HostileName):
        tree.entry_from_row([name, "file", False, 1, 1, "0" * 64, ""])


@pytest.mark.parametrize(
    ("path", "target"),
    [("l", "/etc"), ("l", ".."), ("l", "../x"), ("a/l", "../../x"), ("l", "a/../../x"), ("l", "")],
)
def test_links_that_lead_out_are_refused(path: str, target: str) -> None:
    with pytest.raises(HostileName):
        tree.check_target(path, target)


@pytest.mark.parametrize(("path", "target"), [("l", "x"), ("a/l", "../x"), ("l", "a/../b")])
def test_links_inside_are_taken(path: str, target: str) -> None:
    assert tree.check_target(path, target) == target


@given(ENTRIES)
def test_entry_survives_its_row(entry: Entry) -> None:
    assert tree.entry_from_row(tree.entry_to_row(entry)) == entry


@given(st.lists(ENTRIES, max_size=6, unique_by=lambda entry: entry.path), st.randoms())
def test_tree_hash_is_about_the_entries_only(entries: list[Entry], dice: object) -> None:
    told = tree.hash_entries(entries)
    assert told == tree.hash_entries([entry._replace(mtime_ns=0) for entry in entries[::-1]])
    for number, entry in enumerate(entries):
        changed = [*entries]
        changed[number] = entry._replace(executable=not entry.executable)
        assert tree.hash_entries(changed) != told


SIZES, TIMES = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)
STAMPS = st.builds(Stamp, SIZES, TIMES, TIMES, SIZES, digest=DIGEST)


@given(st.dictionaries(PART, STAMPS, max_size=5))
def test_index_survives_its_file(stamps: dict[str, Stamp]) -> None:
    index = Index()
    index.update(stamps)
    again = Index.from_bytes(index.to_bytes())
    assert (again, dict(again)) == (index, stamps)


def test_file_of_a_time_that_no_clock_shows_is_read_each_time(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    index = Index()
    index["a"] = Stamp(1, 2**70, 0, 0, "00" * 32)
    assert len(index) == 0
    assert tree.scan(str(tmp_path), ["a"], index).hashed == 1


def test_index_whose_file_is_torn_or_damaged_anywhere_is_empty() -> None:
    index = Index()
    index["package/module.py"] = index["b"] = Stamp(7, OLD_NS, OLD_NS, 12, "5a" * 32)
    whole = index.to_bytes()
    assert len(Index.from_bytes(whole)) == 2
    for at in range(len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        for torn in (damaged, whole[:at], whole[:at] + bytes(len(whole) - at)):
            if torn != whole:
                assert Index.from_bytes(torn) == Index(), at
