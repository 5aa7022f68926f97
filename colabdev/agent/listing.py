"""What lies in a work dir besides the files that are known: new files of the project, and outputs."""

from __future__ import annotations

import os
from typing import Container, Iterator, List, NamedTuple, Tuple

from . import tree
from .rules import IGNORED, OUTPUT, PROJECT, Folder, Rules


class Listing(NamedTuple):
    """Paths of files and links, and the folders that could not be listed."""

    project: List[str]
    outputs: List[str]
    problems: List[tree.Problem]
    empty: List[str]
    """Folders of the project that hold nothing at all."""


def list_others(root: str, rules: Rules, known: Container[str]) -> Listing:
    """Everything below `root` that the rules do not ignore and that is not `known`.

    An ignored folder is never looked into, nor is one that ignores all of itself, as virtual
    environments and the caches of tools do.
    """
    listing = Listing([], [], [], [])
    pending = [rules.root()]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(root + "/" + folder.path) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except FileNotFoundError:
            continue
        except OSError as exc:
            reason = "cannot be listed: {}".format(exc.strerror or exc)
            listing.problems.append((folder.path.rstrip("/") or ".", reason))
            continue
        if not found and folder.path and folder.kind == PROJECT:
            listing.empty.append(folder.path.rstrip("/"))
        if (".gitignore", False) in found and ignores_itself(root, rules, folder, known):
            continue
        pending += _sort_out(folder, found, rules, known, listing)
    return listing


def look_into(root: str, rules: Rules, path: str) -> Tuple[List[str], bool]:
    """The folders in the folder `path` ("" or ending with '/') that no rule ignores, and whether it
    holds nothing at all."""
    folder = rules.find_folder(path)
    try:
        with os.scandir(root + "/" + path) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return [], False  # The files in it are a problem already.
    if folder is None or folder.kind != PROJECT:
        return [], False
    if (".gitignore", False) in found and ignores_itself(root, rules, folder, ()):
        return [], False
    names = [name for name, is_folder in found if is_folder and name.lower() != ".git"]
    below = [path + name + "/" for name in names if path + name != tree.OURS]
    return [each for each in below if rules.kind(folder, each) == PROJECT], not found


def _sort_out(
    folder: Folder,
    found: List[Tuple[str, bool]],
    rules: Rules,
    known: Container[str],
    listing: Listing,
) -> Iterator[Folder]:
    for name, is_folder in found:
        path = folder.path + name
        if name.lower() == ".git" or path == tree.OURS:
            continue
        if is_folder:
            below = rules.enter(folder, path + "/")
            if below is not None:
                yield below
        elif path not in known:
            kind = rules.kind(folder, path)
            if kind != IGNORED:
                (listing.outputs if kind == OUTPUT else listing.project).append(path)


def ignores_itself(root: str, rules: Rules, folder: Folder, known: Container[str]) -> bool:
    """Whether a `.gitignore` that only stands there says `*` and nothing against it."""
    path = folder.path + ".gitignore"
    if not folder.path or folder.path in rules.sets or path in known:
        return False
    try:
        with open(root + "/" + path, "rb") as file:
            lines = [line.strip() for line in file.read(64 * 1024).splitlines()]
    except OSError:
        return False
    return b"*" in lines and not any(line.startswith(b"!") for line in lines)
