"""Which files belong to a project: exactly those that git would say, with git and without it."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from colabdev.adapters.ignore_files import compile_rules
from colabdev.adapters.project_files import Listing, list_by_git, list_by_walk, list_project
from colabdev.errors import ColabdevError
from tests.agent.test_tree import HOSTILE


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", root, *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=True,
    )
    return done.stdout


def write(root: Path, path: str, text: str = "x") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, newline="")


def by_git(root: Path) -> set[str]:
    listing = list_by_git("git", root)
    assert listing is not None
    assert listing.problems == []
    return set(listing.paths)


def by_walk(root: Path) -> set[str]:
    return paths_of(list_by_walk(root, compile_rules))


def paths_of(listing: Listing) -> set[str]:
    assert listing.problems == []
    assert len(listing.paths) == len(set(listing.paths))
    return set(listing.paths)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q")
    return root


def test_tracked_and_new_files_are_listed_and_ignored_are_not(repository: Path) -> None:
    for path in ("tracked", "tracked.log", "new", "ignored.log", "sub/build/x", "sub/y"):
        write(repository, path)
    write(repository, ".gitignore", "*.log\n")
    write(repository, "sub/.gitignore", "build/\n")
    git(repository, "add", "-f", "tracked", "tracked.log")
    assert by_git(repository) == {
        *("tracked", "tracked.log", "new", "sub/y", ".gitignore", "sub/.gitignore")
    }
    assert by_walk(repository) == by_git(repository) - {"tracked.log"}


def test_hostile_names_are_listed(repository: Path) -> None:
    for name in HOSTILE:
        write(repository, f"{name}/{name}")
    assert by_git(repository) == {f"{name}/{name}" for name in HOSTILE} == by_walk(repository)


def test_project_below_the_top_level_obeys_the_rules_above(repository: Path) -> None:
    write(repository, ".gitignore", "*.log\n/sub/data\nsub/cache/\n!keep.log\n")
    write(repository, ".git/info/exclude", "secret\n")
    for name in ("a", "a.log", "keep.log", "data/x", "cache/x", "secret", "deep/data/x"):
        write(repository, f"sub/{name}")
    assert by_git(repository / "sub") == {"a", "keep.log", "deep/data/x"}
    assert by_walk(repository / "sub") == by_git(repository / "sub")


def test_project_that_the_repository_around_it_ignores_stands_alone(repository: Path) -> None:
    """As below a home directory that is kept in git with `*` ignored."""
    write(repository, ".gitignore", "*\n")
    write(repository, "project/train.py")
    write(repository, "project/.gitignore", "*.log\n")
    write(repository, "project/x.log")
    assert paths_of(list_project(repository / "project", compile_rules)) == {
        "train.py",
        ".gitignore",
    }


def test_repositories_inside_are_listed_as_folders(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "other")
    write(tmp_path / "other", "file")
    git(tmp_path / "other", "add", ".")
    git(tmp_path / "other", "commit", "-qm", "x")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "add", "-q", "../other", "mod")
    git(repository, "init", "-q", "inner")
    write(repository / "inner", "y")
    assert by_git(repository) == {".gitmodules", "mod", "inner"}


def test_deleted_files_are_listed_once_at_most(repository: Path) -> None:
    write(repository, "a")
    git(repository, "add", "a")
    (repository / "a").unlink()
    assert by_git(repository) <= {"a"}


def test_variables_of_another_git_do_not_lead_astray(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, "a")
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")
    assert by_git(repository) == {"a"}


def test_folder_named_git_that_is_no_repository_is_walked(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    write(tmp_path, "a")
    assert paths_of(list_project(tmp_path, compile_rules)) == {"a"}


def test_broken_repository_is_an_error_and_not_an_empty_one(repository: Path) -> None:
    write(repository, "a")
    git(repository, "add", "a")
    (repository / ".git" / "index").write_bytes(b"garbage")
    with pytest.raises(ColabdevError, match=r"cannot list the files of .*git says"):
        list_project(repository, compile_rules)


def test_without_git_on_the_path_the_rules_are_the_same(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, ".gitignore", "*.log\n!keep.log\nbuild/\n")
    for path in ("a", "a.log", "keep.log", "build/x", "sub/build"):
        write(repository, path)
    expected = by_git(repository)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert paths_of(list_project(repository, compile_rules)) == expected


PARTS = [
    "a",
    "b",
    "foo",
    "*",
    "**",
    "*.txt",
    "*.py",
    "[a-c]",
    "?",
    "f*",
    "!(a)",
    "\\#h",
    "d e",
    "a*b",
]
NAMES = ["a", "b", "foo", "bar.txt", "c.py", " x", "d e", "#h", "!n", "ä", "a\nb"]


def random_pattern(dice: random.Random) -> str:
    pattern = "/".join(dice.choice(PARTS) for _ in range(dice.randint(1, 3)))
    pattern = ("/" if dice.random() < 0.25 else "") + pattern + ("/" if dice.random() < 0.3 else "")
    pattern = ("!" if dice.random() < 0.3 else "") + pattern
    return pattern + dice.choice([""] * 12 + [" ", "\\ ", "\r"])


def make_random_tree(root: Path, dice: random.Random) -> None:
    folders = [root]
    for _ in range(6):
        folder = dice.choice(folders) / dice.choice(NAMES)
        if not folder.exists():
            folder.mkdir()
            folders.append(folder)
    for _ in range(15):
        file = dice.choice(folders) / dice.choice(NAMES)
        if not file.exists():
            file.write_text("x")
    for folder in {root, *dice.sample(folders, min(2, len(folders)))}:
        lines = [random_pattern(dice) for _ in range(dice.randint(1, 5))]
        (folder / ".gitignore").write_text("\n".join(lines) + "\n", newline="")


@pytest.mark.parametrize("seed", range(3))
def test_walk_finds_what_git_lists(tmp_path: Path, seed: int) -> None:
    compare_with_git(tmp_path, seed, rounds=40)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_walk_finds_what_git_lists_long(tmp_path: Path) -> None:
    compare_with_git(tmp_path, 99, rounds=3000)


def compare_with_git(place: Path, seed: int, *, rounds: int) -> None:
    """Random trees with random rules: `git ls-files` and our walk say the same, and so does
    `git check-ignore` of each file."""
    dice = random.Random(seed)
    for number in range(rounds):
        root = place / str(number)
        root.mkdir()
        git(root, "init", "-q")
        make_random_tree(root, dice)
        rules = {str(file): file.read_bytes() for file in root.rglob(".gitignore")}
        assert by_walk(root) == by_git(root), rules
        assert by_walk(root) == not_ignored(root), rules


def not_ignored(root: Path) -> set[str]:
    """Every file of which `git check-ignore` says that it is not ignored."""
    files = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(root).parts
    ]
    done = subprocess.run(
        ["git", "-C", root, "check-ignore", "-z", "--stdin"],
        input=b"".join(os.fsencode(path) + b"\0" for path in files),
        capture_output=True,
        check=False,
    )
    return set(files) - set(os.fsdecode(done.stdout).split("\0"))
