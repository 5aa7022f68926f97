"""The projects that `init` starts from, as they travel in the package."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import colabdev
from colabdev.adapters.files import place_folder, write_atomic
from colabdev.errors import ColabdevError, UsageError

# What running a template in the checkout leaves beside it.
_NOT_TEMPLATE = shutil.ignore_patterns("__pycache__", "runs", "datasets", ".pytest_cache")


class PackagedTemplates:
    """`ports.Templates` in `colabdev/templates`; in a checkout they stand beside the package."""

    def __init__(self) -> None:
        directory = _templates_folder()
        found = [*directory.glob("*/colabdev.toml"), *directory.glob("examples/*/colabdev.toml")]
        self._folders = {path.parent.name: path.parent for path in found}

    def names(self) -> list[str]:
        return sorted(self._folders)

    def copy(self, name: str, target: Path) -> list[str]:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Made whole under another name first: half a project is worse than none.
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".colabdev-init-") as made:
                staging = Path(made) / target.name
                shutil.copytree(self._folders[name], staging, ignore=_NOT_TEMPLATE)
                files = sorted(
                    str(path.relative_to(staging)) for path in staging.rglob("*") if path.is_file()
                )
                place_folder(staging, target)
        except OSError as exc:
            raise ColabdevError(
                f"cannot make the project in {target}: {_cause(exc)}",
                hint="make room or give write access there, or choose another directory",
            ) from exc
        return files

    def add(self, name: str, file: str, target: Path) -> None:
        try:
            content = (self._folders[name] / file).read_bytes()
            target.mkdir(parents=True, exist_ok=True)
            write_atomic(target / file, content, mode=0o644)
        except OSError as exc:
            raise ColabdevError(
                f"cannot write {target / file}: {exc.strerror or exc}",
                hint="make room or give write access there, or choose another directory",
            ) from exc


def notebook_template() -> str:
    """The notebook whose cell is to be filled in."""
    return (_templates_folder() / "notebook" / "colabdev.ipynb").read_text(encoding="utf-8")


def write_notebook(path: Path, text: str) -> Path:
    """Write a new file; one that is there may have been worked in."""
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(
            f"there is a {path} already", hint="name another file, or remove that one"
        ) from None
    except OSError as exc:
        raise ColabdevError(
            f"cannot write {path}: {exc.strerror or exc}",
            hint="make room or give write access there, or name another file",
        ) from exc
    return path


def _templates_folder() -> Path:
    package = Path(colabdev.__path__[0])
    installed = package / "templates"
    return installed if installed.is_dir() else package.parent / "templates"


def _cause(exc: OSError) -> str:
    """One sentence, also of the list of failures that copying a tree ends with."""
    if isinstance(exc, shutil.Error):
        _, _, first = exc.args[0][0]
        return str(first).partition(": '")[0]
    return exc.strerror or str(exc)
