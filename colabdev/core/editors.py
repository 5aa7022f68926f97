"""The editors that have Remote-SSH, and how each of them is told to open a folder of a runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from colabdev.errors import UsageError, unknown_word
from colabdev.models import EditorKind

_MICROSOFTS = "ms-vscode-remote.remote-ssh"
_OPEN = "jeanp413.open-remote-ssh"


EDITORS: Mapping[str, EditorKind] = {
    kind.command: kind
    for kind in (
        EditorKind(
            "code", "VS Code", [_MICROSOFTS], ".vscode-server", "Visual Studio Code", "Code"
        ),
        EditorKind(
            "code-insiders",
            "VS Code Insiders",
            [_MICROSOFTS],
            ".vscode-server-insiders",
            "Visual Studio Code - Insiders",
            "Code - Insiders",
        ),
        EditorKind(
            "cursor",
            "Cursor",
            ["anysphere.remote-ssh", _MICROSOFTS],
            ".cursor-server",
            "Cursor",
            "Cursor",
        ),
        EditorKind(
            "windsurf",
            "Windsurf",
            [_OPEN, "codeium.windsurf-remote-openssh"],
            ".windsurf-server",
            "Windsurf",
            "Windsurf",
        ),
        EditorKind("codium", "VSCodium", [_OPEN], ".vscodium-server", "VSCodium", "VSCodium"),
    )
}
"""By command, in the order in which an installed one is taken."""

LOOK_AND_PREPARE = r"""
if [ -d "$1" ]; then echo folder; elif [ -e "$1" ]; then echo file; else echo nothing; fi
[ -n "$2" ] || exit 0
settings=$HOME/$2/data/Machine/settings.json
[ -e "$settings" ] && exit 0
python=$(command -v python3) || exit 0
mkdir -p "${settings%/*}" || exit 0
python3 -c 'import json, sys
print(json.dumps({"python.defaultInterpreterPath": sys.argv[1]}))' "$python" > "$settings.$$" &&
  mv "$settings.$$" "$settings"
"""
"""What sh does on the runtime with a path and an editor's server folder ("" for none of its business):
says what stands at the path, and, where the editor has no settings of that machine yet, names the
Python of the jobs, which its Python extension asks for else."""


def find_kind(typed: str) -> EditorKind:
    """The editor of that command; `UsageError` when it is none that we know."""
    if typed not in EDITORS:
        raise UsageError(unknown_word("editor", typed, EDITORS), hint="colabdev code --editor code")
    return EDITORS[typed]


def open_arguments(alias: str, path: str, *, is_folder: bool) -> Sequence[str]:
    """What an editor's command takes to open that path of the host `alias`.

    As a URI: a bare path is taken for a folder or a file by its looks, and shells on Windows make one
    of their own paths of it.
    """
    uri = f"vscode-remote://ssh-remote+{alias}{quote(path)}"
    return ["--folder-uri" if is_folder else "--file-uri", uri]
