"""Rules on the agent's side list what git lists here, whatever they are."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from colabdev.adapters.ignore_files import compile_rules
from colabdev.adapters.project_files import list_by_git
from colabdev.adapters.project_rules import ProjectRules, RuleSettings
from colabdev.agent import rules
from colabdev.agent.listing import list_others
from colabdev.agent.rules import NAME, PROJECT, Rule, Rules, RuleSet

LINES = [
    *("*.log", "build/", "/build", "data", "!keep.log", "a/**", "**/b", "*", "!*.py", "!*/", "x?"),
    *(
        "[ab]",
        "d/e",
        "/d/",
        "*.tar.gz",
        "ü*",
        "# comment",
        "",
        "trailing ",
        "\\#hash",
        "**/",
        "e/*",
    ),
]
NAMES = ["a", "b", "build", "data", "d", "e", "keep.log", "x.log", "m.py", "xy", "ü", "n.tar.gz"]


def rules_of(root: Path, settings: RuleSettings | None = None) -> Rules:
    """The project's rules, through the document that travels."""
    listing = list_by_git("git", root)
    assert listing is not None
    project = ProjectRules(root, settings or RuleSettings(), root.parent / "cache", compile_rules)
    return rules.from_document(project.document(listing.rules, []))


def make_random_tree(root: Path, dice: random.Random) -> None:
    folders = [root]
    for _ in range(dice.randint(1, 6)):
        folder = dice.choice(folders) / dice.choice(NAMES)
        if not folder.exists():
            folder.mkdir()
            folders.append(folder)
    for folder in folders:
        for name in dice.sample(NAMES, 5):
            if not (folder / name).exists():
                (folder / name).write_text("x")
        if dice.random() < 0.4:
            lines = dice.choices(LINES, k=dice.randint(1, 5))
            (folder / ".gitignore").write_text("\n".join(lines))


def by_agent(root: Path) -> set[str]:
    return set(list_others(str(root), rules_of(root), ()).project)


def compare_random_trees(place: Path, *, rounds: int, seed: int) -> None:
    dice = random.Random(seed)
    place.mkdir(exist_ok=True)
    for number in range(rounds):
        root = place / str(number)
        root.mkdir()
        subprocess.run(["git", "init", "-q", root], check=True)
        (root / ".git" / "info" / "exclude").write_text(dice.choice(["", "xy\n", "b/\n"]))
        make_random_tree(root, dice)
        listing = list_by_git("git", root)
        assert listing is not None
        shown = {str(file): file.read_bytes() for file in root.rglob(".gitignore")}
        assert by_agent(root) == set(listing.paths), shown


def test_agent_lists_what_git_lists(tmp_path: Path) -> None:
    compare_random_trees(tmp_path / "trees", rounds=40, seed=3)


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_agent_lists_what_git_lists_long(tmp_path: Path) -> None:
    compare_random_trees(tmp_path / "trees", rounds=3000, seed=4)


def test_rules_of_the_user_and_of_the_repository_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", root], check=True)
    (tmp_path / "config" / "git").mkdir(parents=True)
    (tmp_path / "config" / "git" / "ignore").write_text("*.users\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("a.users", "a.other", "b"):
        (root / name).write_text("x")
    assert by_agent(root) == {"a.other", "b"}
    (tmp_path / "elsewhere").write_text("*.other\n")
    configure = ["git", "-C", str(root), "config", "core.excludesFile", str(tmp_path / "elsewhere")]
    subprocess.run(configure, check=True)
    assert by_agent(root) == {"a.users", "b"}


def test_project_inside_a_repository_obeys_the_rules_above(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("*.log\n/sub/data\n")
    root = tmp_path / "sub"
    for path in ("a", "a.log", "data/x", "deep/data/x", "deep/b.log"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    assert by_agent(root) == {"a", "deep/data/x"}


def test_outputs_are_found_in_ignored_folders_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", root], check=True)
    (root / ".gitignore").write_text("runs/\nother/\n")
    for path in ("runs/1/a.csv", "runs/1/b.bin", "other/a.csv", "top.csv", "runs/secret/a.csv"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    settings = RuleSettings(["runs/secret/"], ["runs/**/*.csv", "top.csv"])
    listing = list_others(str(root), rules_of(root, settings), ())
    assert listing.outputs == ["top.csv", "runs/1/a.csv"]
    assert listing.project == [".gitignore"]


def test_known_files_are_left_out_and_what_cannot_be_listed_is_told(tmp_path: Path) -> None:
    for name in ("known", "new"):
        (tmp_path / name).write_text("x")
    (tmp_path / "closed").mkdir(mode=0)
    try:
        listing = list_others(str(tmp_path), Rules(), {"known"})
        assert listing.project == ["new"]
        if os.geteuid() != 0:
            assert [path for path, _ in listing.problems] == ["closed"]
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 2}', '{"schema": 1, "sets": [[1]]}'])
def test_document_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  json's own is one, too.
        rules.from_document(text)


def test_later_rule_wins_whatever_its_kind() -> None:
    rule_set = RuleSet(compile_rules(["*.log", "!keep.log", "[k]eep.log"]))
    assert rule_set.rules[1] == Rule(NAME, "keep.log", False, False, 2)
    found = rule_set.deciding("d/keep.log")
    assert (found and (found.line, found.ignores)) == (3, True)
    whole = Rules(own=rule_set)
    assert whole.kind(whole.root(), "other") == PROJECT
