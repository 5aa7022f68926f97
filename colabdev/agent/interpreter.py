"""What a Python on this machine is and has; run by that Python itself, by `python3 -c`.

A JSON object on stdin: `lines` of requirements, `modules` that are needed, and `lock` when that is
wanted, which is what it has of its own as `name==version`. One on stdout: that, `version`,
`prefix`, `outer` (where its packages are when it is a virtual environment), `pip` (whether it has it),
`missing` (of the modules), and `kept`: its torch packages, but for those that the lines ask for in
another version.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import re
import site
import sys
import sysconfig
from typing import Any, Dict, List

_KEPT = "torch"


def answer(asked: Dict[str, Any]) -> Dict[str, Any]:
    """See above."""
    in_environment = sys.prefix != sys.base_prefix
    return {
        "version": sys.version,
        "prefix": sys.prefix,
        "outer": site.getsitepackages() if in_environment else [],
        "pip": _has("pip"),
        "missing": [name for name in asked["modules"] if not _has(name)],
        "kept": _kept(asked["lines"]),
        "lock": _lock() if asked.get("lock") else None,
    }


def _lock() -> List[str]:
    found = importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])
    own = {_canonical(one.metadata["Name"] or ""): one.version for one in found}
    return ["{}=={}".format(*row) for row in sorted(own.items())]


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _kept(lines: List[str]) -> Dict[str, str]:
    installed = {
        _canonical(found.metadata["Name"] or ""): found.version
        for found in importlib.metadata.distributions()
    }
    torches = {name: version for name, version in installed.items() if name.startswith(_KEPT)}
    for line in lines if torches else []:
        for name in list(torches):
            if asks_for_another(line, name, torches[name]):
                del torches[name]
    return torches


def asks_for_another(line: str, name: str, version: str) -> bool:
    """Whether that line of requirements wants another version of the package than this one."""
    requirements = _packaging()
    try:
        wanted = requirements.Requirement(re.sub(r"(^|\s)#.*", "", line).strip())
    except requirements.InvalidRequirement:
        return False  # An option, a path or a mistake: the installer says what it thinks of it.
    if _canonical(wanted.name) != name or (wanted.marker and not wanted.marker.evaluate()):
        return False
    return bool(wanted.url) or not wanted.specifier.contains(version, prereleases=True)


def _packaging() -> Any:
    """The library that knows what a requirement means; pip brings its own."""
    where = "packaging" if _has("packaging") else "pip._vendor.packaging"
    return importlib.import_module(where + ".requirements")


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(answer(json.load(sys.stdin))))
