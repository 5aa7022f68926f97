"""Which folder a command is about."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from colabdev.config.project import Project, find_project
from colabdev.errors import UsageError


def make(root: Path, *paths: str) -> None:
    """Folders for what ends with a slash, empty files for the rest."""
    for path in paths:
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()


@pytest.mark.parametrize(
    ("tree", "start", "found", "has_settings"),
    [
        (["a/b/"], "a/b", "a/b", False),
        (["a/.git/", "a/b/c/"], "a/b/c", "a", False),
        (["a/.git", "a/b/"], "a/b", "a", False),  # A file: a worktree or a submodule.
        (["a/colabdev.toml", "a/b/c/"], "a/b/c", "a", True),
        (["a/colabdev.toml", "a/b/.git/"], "a/b", "a", True),
        (["a/.git/", "a/b/colabdev.toml", "a/b/c/"], "a/b/c", "a/b", True),
        (["a/colabdev.toml", "a/b/colabdev.toml"], "a/b", "a/b", True),
        (["a/.git/", "a/b/.git/"], "a/b", "a/b", False),
        (["a/.git/", "b/"], "b", "b", False),
        (["a/colabdev.toml", "a/.git/"], "a", "a", True),
        (["home/.git/", "home/x/colabdev.toml"], "home/x", "home/x", True),
    ],
)
def test_project_is_found(
    tmp_path: Path, tree: list[str], start: str, found: str, has_settings: bool
) -> None:
    make(tmp_path, *tree)
    project = find_project(tmp_path / start, tmp_path / "home")
    assert project.path == tmp_path / found
    assert project.has_settings is has_settings
    assert project.settings_file == tmp_path / found / "colabdev.toml"


def test_project_of_a_real_worktree_is_the_worktree(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *author, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "main")
    git("-C", "main", "commit", "--allow-empty", "-m", "first")
    git("-C", "main", "worktree", "add", "../side")
    make(tmp_path, "side/deep/")
    assert (tmp_path / "side" / ".git").is_file()
    assert find_project(tmp_path / "side" / "deep", None).path == tmp_path / "side"


@pytest.mark.parametrize("tree", [["home/"], ["home/colabdev.toml"], ["home/.git/"]])
def test_home_is_refused(tmp_path: Path, tree: list[str]) -> None:
    make(tmp_path, *tree)
    with pytest.raises(UsageError, match="cannot take") as caught:
        find_project(tmp_path / "home", tmp_path / "home")
    assert str(tmp_path / "home") in caught.value.message
    assert caught.value.hint


def test_root_is_refused_without_a_home_too() -> None:
    with pytest.raises(UsageError, match="the root of a disk"):
        find_project(Path("/"), None)


def test_folder_in_home_is_taken(tmp_path: Path) -> None:
    make(tmp_path, "home/code/digits/")
    project = find_project(tmp_path / "home/code/digits", tmp_path / "home")
    assert project.path == tmp_path / "home/code/digits"


def test_hostile_folder_name_is_taken(tmp_path: Path) -> None:
    make(tmp_path, 'it\'s a "project"\n$HOME/colabdev.toml')
    start = tmp_path / 'it\'s a "project"\n$HOME'
    assert find_project(start, None).path == start


def test_dotfiles_repository_in_the_home_is_no_project(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    work = tmp_path / "work"
    work.mkdir()
    assert find_project(work, home=tmp_path) == Project(work, has_settings=False)
