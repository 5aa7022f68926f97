"""A root of its own: mount, PID, network and host name namespaces, over this computer's files.

What runs in it may set passwords, write into /etc and listen on any port; none of it is this
computer's, and all of it is gone when its first process ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
_TIMEOUT_S = 120

_INIT = """\
import json, os, runpy, subprocess, sys
sys.path.insert(0, @CHECKOUT@)
from tests.support.colab_server import machine_init
spec = json.loads(sys.argv[1])
machine_init.enter(machine_init.build_root(spec))
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
os.environ.clear()
os.environ.update(spec["environment"])
child = subprocess.run([sys.executable, "-m", *spec["module"]], cwd=@CHECKOUT@)
sys.exit(child.returncode)
"""


def run_isolated(directory: Path, module: Sequence[str]) -> Any:
    """What the module, started as `python -m`, printed as JSON in its last line."""
    for name in ("run", "drive", "disk"):
        (directory / name).mkdir(parents=True)
    spec = {
        "directory": str(directory),
        "visible": sorted(
            {os.path.realpath(path) for path in (sys.prefix, sys.base_prefix, CHECKOUT)}
        ),
        "kernel_site": str(CHECKOUT / "tests/support/colab_server/kernel_site"),
        "environment": {"HOME": "/root", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        "module": list(module),
    }
    done = subprocess.run(
        [
            *("unshare", "--mount", "--uts", "--pid", "--net", "--fork", "--kill-child"),
            *(sys.executable, "-c", _INIT.replace("@CHECKOUT@", repr(str(CHECKOUT)))),
            json.dumps(spec),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout.splitlines()[-1])
