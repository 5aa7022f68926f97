"""The zip of a project: what any program sees in it, and what it proves about itself."""

from __future__ import annotations

import io
import os
import random
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from colabdev.agent import archive, shelf, tree
from colabdev.agent.archive import Archive, Broken, Summary
from colabdev.agent.stamps import Index
from tests.agent.test_tree import HOSTILE

ABOUT = {"project": "digits", "stored": "2026-11-20T22:34:05.123456Z", "origin": "/p on c"}


def make(root: Path, files: dict[str, bytes]) -> list[str]:
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return sorted(files)


def pack(root: Path, paths: list[str]) -> tuple[bytes, Summary]:
    file = io.BytesIO()
    summary = archive.write(file, str(root), paths, [("big", "is large")], ABOUT)
    return file.getvalue(), summary


@pytest.fixture
def project(tmp_path: Path) -> Path:
    make(tmp_path, {"a.py": b"print(1)\n", "data/b.bin": random.Random(1).randbytes(400_000)})
    script = tmp_path / "run.sh"
    script.write_bytes(b"#!/bin/sh\n")
    script.chmod(0o755)
    (tmp_path / "data" / "link").symlink_to("../a.py")
    os.utime(tmp_path / "a.py", ns=(0, 1_700_000_000_123_456_789))
    return tmp_path


PATHS = ["a.py", "data/b.bin", "data/link", "run.sh"]


def test_archive_has_the_tree_and_proves_it(project: Path) -> None:
    content, summary = pack(project, PATHS)
    packed = Archive(io.BytesIO(content))
    packed.verify()
    scanned = tree.scan(str(project), PATHS, Index()).entries
    assert packed.entries == sorted(scanned)
    assert summary == packed.summary == archive.read_summary(io.BytesIO(content))
    assert summary.tree == tree.hash_entries(scanned)
    assert (summary.files, summary.project) == (4, "digits")
    assert packed.left_out == [("big", "is large")]


def test_any_zip_program_unpacks_it(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content, _ = pack(project, PATHS)
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        assert packed.testzip() is None
        infos = {info.filename: info for info in packed.infolist()}
        assert packed.read("a.py") == b"print(1)\n"
    assert all(not name.startswith("/") for name in infos)
    assert {info.compress_type for info in infos.values()} == {zipfile.ZIP_DEFLATED}
    modes = {name: info.external_attr >> 16 for name, info in infos.items()}
    assert stat.S_ISLNK(modes["data/link"])
    assert modes["run.sh"] & 0o111
    assert not modes["a.py"] & 0o111
    target = tmp_path_factory.mktemp("other")
    (target / "x.zip").write_bytes(content)
    script = "import sys, zipfile; zipfile.ZipFile('x.zip').extractall('out')"
    subprocess.run([sys.executable, "-c", script], cwd=target, check=True)
    assert (target / "out" / "data" / "b.bin").read_bytes() == (
        project / "data" / "b.bin"
    ).read_bytes()


def test_the_same_tree_is_the_same_bytes(project: Path) -> None:
    assert pack(project, PATHS)[0] == pack(project, PATHS[::-1])[0]


def test_hostile_names_come_back(tmp_path: Path) -> None:
    paths = make(tmp_path, {name: name.encode("utf-8", "surrogateescape") for name in HOSTILE})
    content, _ = pack(tmp_path, paths)
    packed = Archive(io.BytesIO(content))
    assert [entry.path for entry in packed.entries] == paths
    packed.verify()


def test_every_cut_and_every_flip_is_noticed(project: Path) -> None:
    content, summary = pack(project, PATHS)
    chosen = random.Random(2)
    missed = 0
    for _ in range(150):
        cut = content[: chosen.randrange(len(content))]
        with pytest.raises(Broken):
            Archive(io.BytesIO(cut)).verify()
        place = chosen.randrange(len(content))
        flipped = bytearray(content)
        flipped[place] ^= 1 << chosen.randrange(8)
        try:
            packed = Archive(io.BytesIO(bytes(flipped)))
            packed.verify()
        except Broken:
            continue
        # Only what nobody relies on may have changed: dates, and the zip's own copies of facts.
        missed += 1
        assert tree.hash_entries(packed.entries) == summary.tree
    assert missed < 15


def test_a_link_that_leads_out_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, {"a": b"a"})
    (tmp_path / "out").symlink_to("/etc/passwd")
    content, summary = pack(tmp_path, ["a", "out"])
    assert summary.files == 1
    assert Archive(io.BytesIO(content)).left_out[1][0] == "out"


def test_what_went_meanwhile_is_not_in_it(tmp_path: Path) -> None:
    make(tmp_path, {"a": b"a"})
    assert pack(tmp_path, ["a", "gone"])[1].files == 1


def test_other_zips_are_broken() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as other:
        other.writestr("a", "a")
    for content in (file.getvalue(), b"", b"PK\x05\x06" + bytes(18)):
        with pytest.raises(Broken):
            Archive(io.BytesIO(content))
        with pytest.raises(Broken):
            archive.read_summary(io.BytesIO(content))


# --- the shelf ---


def shelve(folder: Path, root: Path, number: int, origin: str = "here") -> str:
    make(root, {"n": b"%d" % number})
    file = io.BytesIO()
    about = dict(ABOUT, stored=f"2026-11-20T00:{number:02d}:00.000000Z", origin=origin)
    summary = archive.write(file, str(root), ["n"], [], about)
    file.seek(0)
    return shelf.store(str(folder), summary.tree, file).path


def test_newest_archives_of_each_origin_are_kept(tmp_path: Path) -> None:
    code = tmp_path / "code"
    first = shelve(code, tmp_path, 0, "elsewhere")
    stored = [shelve(code, tmp_path, number) for number in range(1, 26)]
    left = {str(path) for path in code.iterdir()}
    assert left == {first, *stored[-shelf.KEPT :]}


def test_torn_archives_go_when_nobody_can_be_writing_them(tmp_path: Path) -> None:
    code = tmp_path / "code"
    kept = shelve(code, tmp_path, 1)
    old, young = code / ("a" * 64 + ".zip"), code / ("b" * 64 + ".zip")
    for torn in (old, young):
        torn.write_bytes(b"PK")
    os.utime(old, (0, 0))
    shelf.prune(str(code))
    assert {str(path) for path in code.iterdir()} == {kept, str(young)}


def test_an_archive_with_a_hole_is_not_found(tmp_path: Path) -> None:
    """Of the right size, and with its end: what came of a file whose middle was never uploaded."""
    code = tmp_path / "code"
    make(tmp_path, {"a": random.Random(1).randbytes(50_000)})
    file = io.BytesIO()
    summary = archive.write(file, str(tmp_path), ["a"], [], ABOUT)
    file.seek(0)
    stored = shelf.store(str(code), summary.tree, file)
    assert shelf.find_whole(str(code), summary.tree, None) == stored
    with open(stored.path, "r+b") as whole:
        whole.seek(20_000)
        whole.write(bytes(4096))
    assert shelf.find_whole(str(code), summary.tree, None) is None


def test_a_torn_archive_keeps_its_name_and_the_whole_one_gets_another(tmp_path: Path) -> None:
    code = tmp_path / "code"
    whole = Path(shelve(code, tmp_path, 1))
    torn = whole.read_bytes()[:-10]
    whole.unlink()
    whole.write_bytes(torn)
    assert shelf.find_whole(str(code), whole.stem, None) is None
    second = Path(shelve(code, tmp_path, 1))
    assert second.name == whole.stem + "-2.zip"
    assert whole.read_bytes() == torn
    found = shelf.find_whole(str(code), whole.stem, None)
    assert found is not None
    assert found.path == str(second)
