"""The work dir under the agent's hands: what is ours, what is not, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import decompress

import pytest

from colabdev.agent import changes, rules, sync, tree, wire, workdir
from colabdev.agent.changes import Change
from colabdev.agent.ledger import Foreign, Ledger
from colabdev.agent.stamps import Index
from colabdev.agent.tree import Entry
from colabdev.agent.workdir import View
from tests.agent.test_tree import HOSTILE
from tests.support.disks import fill, tiny_disk

NO_RULES = rules.to_document(rules.Rules())
MARKER = {"computer": "mine", "project": "/home/me/digits"}


@dataclass
class Frames:
    """An upload whose frames are here; the other side goes away after `until` of them."""

    frames: Iterator[changes.Frame]
    until: int = 10**9

    def next_frame(self) -> changes.Frame:
        self.until -= 1
        if self.until < 0:
            raise wire.Truncated("cut")
        return next(self.frames)


@dataclass
class Place:
    """A project and its work dir, with only the agent's code between them."""

    local: Path
    remote: Path
    marker: dict[str, str] = field(default_factory=lambda: dict(MARKER))

    def write(self, path: str, content: bytes | str = b"content") -> Path:
        file = self.local / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def entries(self) -> dict[str, Entry]:
        files = [path for path in self.local.rglob("*") if path.is_symlink() or path.is_file()]
        paths = [path.relative_to(self.local).as_posix() for path in files]
        return {entry.path: entry for entry in tree.scan(str(self.local), paths, Index()).entries}

    def apply(self, steps: list[Change], **options: Any) -> dict[str, Any]:
        until = options.pop("until", 10**9)
        frames = changes.pack(steps, lambda change: iter([(self.local / change.path).read_bytes()]))
        arguments = {"workdir": str(self.remote), "marker": self.marker, **options}
        answer, _ = sync.apply(arguments, Frames(frames, until))  # type: ignore[arg-type]
        return answer

    def send(self, *paths: str, **options: Any) -> dict[str, Any]:
        """Send these as if nothing was known to be there."""
        entries = self.entries()
        put = {"file": changes.SEND, "link": changes.MAKE_LINK}
        chosen = [entries[path] for path in paths or sorted(entries)]
        return self.apply([Change(put[e.kind], e.path, "", e) for e in chosen], **options)

    def compare(self, told: str = "") -> tuple[dict[str, Any], list[list[str]]]:
        """The answer, and what it says of each file."""
        arguments = {"workdir": str(self.remote), "marker": self.marker, "tree": told}
        ((answer, body),) = sync.Comparing().compare({**arguments, "rules_text": NO_RULES}, b"")
        lines = decompress(body).splitlines() if body else []
        return answer, [
            row for what, rows in map(json.loads, lines) if what == "files" for row in rows
        ]

    def there(self) -> dict[str, bytes | str]:
        """What lies in the work dir."""
        return contents(self.remote)


def contents(root: Path) -> dict[str, bytes | str]:
    """Every file's content and every link's target, but for our own folder."""
    found: dict[str, bytes | str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if name.partition("/")[0] == tree.OURS:
            continue
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "local").mkdir()
    return Place(tmp_path / "local", tmp_path / "content" / "digits")


def test_files_arrive_with_bits_times_and_links(place: Place) -> None:
    place.write("run.sh", "#!").chmod(0o755)
    os.utime(place.write("sub/deep/old.txt"), ns=(1, 1_500_000_000_123_456_789))
    place.write("empty", b"")
    (place.local / "link").symlink_to("sub/deep/old.txt")
    answer = place.send()
    whole = tree.hash_entries(place.entries().values())
    assert answer == {"failures": [], "tree": whole, "ancestor": whole}
    assert place.there() == contents(place.local)
    assert os.access(place.remote / "run.sh", os.X_OK)
    assert not os.access(place.remote / "empty", os.X_OK) or os.geteuid() == 0
    assert (place.remote / "empty").stat().st_mode & 0o111 == 0
    assert (place.remote / "sub/deep/old.txt").stat().st_mtime_ns == 1_500_000_000_123_456_789


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_arrive(place: Place, name: str) -> None:
    place.write(f"{name}/{name}", b"deep")
    assert place.send()["failures"] == []
    assert place.there() == {f"{name}/{name}": b"deep"}


def test_survey_says_what_of_ours_is_there(place: Place) -> None:
    place.write("a", "1")
    place.write("b", "2")
    place.send()
    (place.remote / "b").unlink()
    (place.remote / "stranger").write_text("not ours")
    survey = workdir.WorkDir(str(place.remote)).survey(View())
    assert survey.fingerprints == {"a": place.entries()["a"].fingerprint}
    assert survey.tree == tree.hash_fingerprints(survey.fingerprints)
    nothing = workdir.WorkDir(str(place.remote / "no-such-dir")).survey(View())
    assert (nothing.tree, nothing.entries) == (tree.hash_entries([]), [])


@pytest.mark.parametrize("content", ["[]", "1", '"mine"', "null", "{", "\xff"])
def test_marker_that_makes_no_sense_is_somebody_elses(place: Place, content: str) -> None:
    place.write("a", "1")
    place.send()
    (place.remote / ".colabdev" / "marker.json").write_text(content)
    with pytest.raises(Foreign, match="cannot be read"):
        Ledger(str(place.remote)).check(MARKER)


def test_compare_says_same_or_lists(place: Place) -> None:
    place.write("a", "1")
    place.write("b", "2")
    told = place.send()["tree"]
    answer, rows = place.compare(told)
    assert (answer["same"], answer["tree"], rows) == (True, told, [])
    (place.remote / "a").write_text("edited")
    (place.remote / "b").unlink()
    (place.remote / "b").mkdir()
    answer, rows = place.compare(told)
    assert not answer["same"]
    entries = place.entries()
    assert [row[:2] for row in rows] == [[path, entries[path].fingerprint] for path in "ab"]
    assert rows[0][2] not in (rows[0][1], "", "?")
    assert rows[1][2] == ""


def test_compare_of_many_lists_each(place: Place) -> None:
    for number in range(1203):
        place.write(f"d{number % 7}/f{number}", str(number))
    place.send()
    assert len(place.compare()[1]) == 1203


def test_hashes_that_are_older_than_what_is_written_are_not_kept(place: Place) -> None:
    """A compare that another sync overtook must not take its files from it."""
    place.write("a", "1")
    place.send()
    overtaken = workdir.WorkDir(str(place.remote))
    overtaken.agree(overtaken.survey(View()))
    place.write("b", "2")
    place.send("b")
    (place.remote / "a").unlink()
    overtaken.agree(overtaken.survey(View()))
    overtaken.keep_hashes()
    assert [row[0] for row in place.compare()[1]] == ["a", "b"]


def test_same_edit_on_both_sides_is_as_sync_left_it(place: Place) -> None:
    place.write("a", "1")
    place.send()
    place.write("a", "edited")
    (place.remote / "a").write_text("edited")
    wanted = place.entries()["a"]
    assert place.compare(tree.hash_entries([wanted]))[0]["same"]
    assert place.compare()[1] == [["a", wanted.fingerprint, wanted.fingerprint]]


def test_edited_there_is_kept(place: Place) -> None:
    place.write("a", "1")
    place.send()
    before = place.entries()["a"].fingerprint
    (place.remote / "a").write_text("precious")
    place.write("a", "2")
    entry = place.entries()["a"]
    for step in (
        Change(changes.SEND, "a", before, entry),
        Change(changes.CHMOD, "a", before, entry),
        Change(changes.DELETE, "a", before),
    ):
        assert place.apply([step])["failures"] == [["a", "conflict", "edited"]]
        assert place.there() == {"a": b"precious"}


def test_created_there_is_kept_and_the_same_is_adopted(place: Place) -> None:
    place.write("a", "mine")
    place.write("b", "same")
    workdir.make(str(place.remote))
    (place.remote / "a").write_text("theirs")
    (place.remote / "b").write_text("same")
    assert place.send()["failures"] == [["a", "conflict", "created"]]
    assert place.there() == {"a": b"theirs", "b": b"same"}
    assert [row[0] for row in place.compare()[1] if row[1]] == ["b"]


def test_folder_and_file_change_places(place: Place) -> None:
    place.write("x/y", "in a folder")
    place.write("z", "a file")
    place.send()
    old = place.entries()
    (place.local / "x/y").unlink()
    (place.local / "x").rmdir()
    (place.local / "z").unlink()
    place.write("x", "a file now")
    place.write("z/y", "in a folder now")
    new = place.entries()
    steps = [Change(changes.DELETE, path, old[path].fingerprint) for path in ("x/y", "z")]
    steps += [Change(changes.SEND, path, "", new[path]) for path in ("x", "z/y")]
    assert place.apply(steps)["failures"] == []
    assert place.there() == contents(place.local)


def test_strangers_folder_and_link_are_in_the_way(place: Place) -> None:
    place.write("a", "1")
    place.write("b/c", "2")
    workdir.make(str(place.remote))
    (place.remote / "a").mkdir()
    (place.remote / "a" / "kept").write_text("theirs")
    outside = place.remote.parent / "outside"
    outside.mkdir()
    (place.remote / "b").symlink_to(outside)
    failures = place.send()["failures"]
    assert [failure[:2] for failure in failures] == [["a", "conflict"], ["b/c", "conflict"]]
    assert list(outside.iterdir()) == []
    assert place.there()["a/kept"] == b"theirs"


def test_deletion_behind_a_new_link_touches_nothing(place: Place) -> None:
    place.write("d/f", "1")
    place.send()
    before = place.entries()["d/f"].fingerprint
    outside = place.remote.parent / "outside"
    (place.remote / "d").rename(outside)
    (place.remote / "d").symlink_to(outside)
    answer = place.apply([Change(changes.DELETE, "d/f", before)])
    assert answer["failures"] == [["d/f", "conflict", "a folder, or no file"]]
    assert (outside / "f").read_bytes() == b"1"


def test_emptied_folders_go_and_others_stay(place: Place) -> None:
    place.write("a/b/c", "1")
    place.write("d/e", "2")
    place.send()
    (place.remote / "d" / "stranger").write_text("theirs")
    entries = place.entries()
    place.apply([Change(changes.DELETE, p, entries[p].fingerprint) for p in ("a/b/c", "d/e")])
    assert sorted(path.name for path in place.remote.iterdir()) == [".colabdev", "d"]


def test_damaged_content_is_refused_and_the_old_stays(place: Place) -> None:
    place.write("a", "old!")
    place.send()
    before = place.entries()["a"]
    wrong = before._replace(digest="0" * 64)
    answer = place.apply([Change(changes.SEND, "a", before.fingerprint, wrong)])
    assert answer["failures"][0][:2] == ["a", "problem"]
    assert place.there() == {"a": b"old!"}


def test_check_only_says_and_does_nothing(place: Place) -> None:
    place.write("a", "1")
    workdir.make(str(place.remote))
    (place.remote / "a").write_text("theirs")
    place.write("b", "2")
    entries = place.entries()
    steps = [Change(changes.SEND, path, "", entries[path]) for path in "ab"]
    frames = Frames(changes.pack(steps, None))
    arguments = {"workdir": str(place.remote), "marker": MARKER, "check_only": True}
    answer, _ = sync.apply(arguments, frames)  # type: ignore[arg-type]
    assert answer["failures"] == [["a", "conflict", "created"]]
    assert place.there() == {"a": b"theirs"}
    assert not (place.remote / ".colabdev" / "marker.json").exists()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"computer": "yours"}, "belongs to /home/me/digits on another computer"),
        ({"project": "/home/me/other"}, "belongs to /home/me/digits on this computer"),
    ],
)
def test_somebody_elses_work_dir_is_refused(
    place: Place, other: Mapping[str, str], says: str
) -> None:
    place.write("a", "1")
    place.send()
    place.write("a", "2")
    place.marker |= other
    assert says in place.send()["foreign"]
    assert says in place.compare()[0]["foreign"]
    assert place.there() == {"a": b"1"}


def test_unmarked_work_dir_is_taken_when_it_was_empty(place: Place) -> None:
    place.write("a", "1")
    place.remote.mkdir(parents=True)
    assert place.send()["failures"] == []


def test_work_dir_that_we_made_is_taken_with_what_is_in_it(place: Place) -> None:
    place.write("a", "1")
    workdir.make(str(place.remote))
    (place.remote / "notes.txt").write_text("typed before the first sync")
    assert place.send()["failures"] == []
    assert place.there() == {"a": b"1", "notes.txt": b"typed before the first sync"}


def test_unmarked_work_dir_with_files_is_refused(place: Place) -> None:
    place.write("a", "1")
    place.remote.mkdir(parents=True)
    (place.remote / "b").write_text("theirs")
    assert "not empty" in place.send()["foreign"]
    assert "not empty" in place.compare()[0]["foreign"]
    assert place.there() == {"b": b"theirs"}


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', '{"files": [[1]]}', '{"files": 3}'])
def test_list_that_makes_no_sense_loses_nothing(place: Place, text: str) -> None:
    place.write("a", "1")
    place.send()
    (place.remote / ".colabdev" / "owned.json").write_text(text)
    place.write("a", "2")
    assert place.send()["failures"] == [["a", "conflict", "created"]]
    place.write("a", "1")
    assert place.send()["failures"] == []
    assert len(place.compare()[1]) == 1


def test_cut_anywhere_leaves_whole_files_and_knows_its_own(place: Place) -> None:
    """After each cut the client has moved on; what the cut left is still ours, and no conflict."""
    dice = random.Random(7)
    known: dict[str, set[bytes | str]] = {}
    cuts = 0
    for number in range(60):
        for path in ("a", "b/c", "b/d", "e"):
            content = dice.randbytes(dice.choice([0, 10, 700_000]))
            place.write(path, content)
            known.setdefault(path, set()).add(content)
        rows = {path: now for path, _, now in place.compare()[1]}
        steps = [
            Change(changes.SEND, path, rows.get(path, ""), entry)
            for path, entry in place.entries().items()
        ]
        try:
            answer = place.apply(steps, until=dice.randint(1, 5))
        except wire.Truncated:
            cuts += 1
            for path, found in place.there().items():
                assert found in known[path], f"{path} is torn"
            for path, placed, now in place.compare()[1]:
                assert placed == now, f"round {number}: {path} is not known to be ours"
        else:
            assert answer["failures"] == []
            assert place.there() == contents(place.local)
    assert cuts >= 20


def test_full_disk_stops_and_loses_nothing(place: Place) -> None:
    place.remote.mkdir(parents=True)
    with tiny_disk(place.remote, size_kb=400):
        place.write("a", "old")
        assert place.send()["failures"] == []
        before = place.entries()["a"].fingerprint
        place.write("a", b"new" * 10)
        place.write("big", b"x" * 1_000_000)
        entries = place.entries()
        steps = [
            Change(changes.SEND, "big", "", entries["big"]),
            Change(changes.SEND, "a", before, entries["a"]),
        ]
        assert place.apply(steps) == {"stopped": "No space left on device"}
        assert place.there() == {"a": b"old"}
        ballast = place.remote / "ballast"
        fill(ballast)
        assert "stopped" in place.apply(steps[1:]) or place.there()["a"] == b"new" * 10
        ballast.unlink()
        rows = {path: now for path, _, now in place.compare()[1]}
        assert place.apply([steps[1]._replace(expected=rows["a"])])["failures"] == []
        assert place.there() == {"a": b"new" * 10}
