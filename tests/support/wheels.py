"""Packages that need no network: wheels of one module each, and what looks installed."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path


def make_wheel(
    folder: Path, name: str, version: str, *, requires: Sequence[str] = (), says: str = ""
) -> None:
    """A wheel in `folder` whose module says its version; with `says` a program `say-<name>` says that,
    and where its Python is."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": f"__version__ = {version!r}\n",
        f"{info}/METADATA": _metadata(name, version, requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\n"
        "Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if says:
        files[f"{module}.py"] += f"def say():\n    import sys\n    print({says!r}, sys.prefix)\n"
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\nsay-{name} = {module}:say\n"
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, content)


_BUILD_SYSTEM = b"""[build-system]
requires = []
build-backend = "slow"
backend-path = ["."]
"""
_BACKEND = """
import shutil, time

def build_wheel(folder, settings=None, metadata=None):
    time.sleep({seconds})
    return shutil.copy({wheel!r}, folder) and {wheel!r}
"""


def make_source(folder: Path, name: str, version: str, *, build_s: float) -> Path:
    """A source of such a wheel in `folder`, which takes that long to build."""
    make_wheel(folder, name, version)
    (wheel,) = folder.glob("*.whl")
    root = f"{name}-{version}"
    backend = _BACKEND.format(seconds=build_s, wheel=wheel.name)
    files = {
        "PKG-INFO": _metadata(name, version, ()).encode(),
        "pyproject.toml": _BUILD_SYSTEM,
        "slow.py": backend.encode(),
        wheel.name: wheel.read_bytes(),
    }
    source = folder / f"{root}.tar.gz"
    with tarfile.open(source, "w:gz") as packed:
        for path, content in files.items():
            member = tarfile.TarInfo(f"{root}/{path}")
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return source


def put_in(packages: Path, name: str, version: str) -> None:
    """Have it installed in that directory of packages."""
    (packages / f"{name}.py").write_text(f"__version__ = {version!r}\n")
    info = packages / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(_metadata(name, version, ()))


def _metadata(name: str, version: str, requires: Sequence[str]) -> str:
    lines = [f"Requires-Dist: {line}\n" for line in requires]
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(lines)
