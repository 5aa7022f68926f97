"""The agent as one file to send: a zip that is the same for the same source, byte for byte."""

from __future__ import annotations

import base64
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from colabdev.agent.boot import digest_of

_PACKAGE_IN_ARCHIVE = "colabdev_agent"
_ROLES = {
    "carry": "carrier",
    "cloudflared": "cloudflared_session",
    "colab-ssh": "colab_ssh_session",
    "keep": "keeping",
    "keep-editors": "editor_servers",
    "lease": "lease_end",
    "mirror": "mirror",
    "ngrok-session": "ngrok_session",
    "sample": "sampler",
    "supervise": "supervisor",
    "tunnel": "tunnel",
}
"""What runs on by itself, and its module: it starts with no more of the agent than it needs."""


def _entry(module: str) -> str:
    return f"from {_PACKAGE_IN_ARCHIVE}.{module} import main"


_ENTRY = "import sys\n"
for _role, _module in _ROLES.items():
    _ENTRY += f'if sys.argv[1:2] == ["{_role}"]:\n    {_entry(_module)}\n'
    _ENTRY += "    sys.exit(main(sys.argv[2:]))\n"
_ENTRY += f"{_entry('__main__')}\nsys.exit(main())\n"
_CELL_MODULES = (
    "cell",
    "cloudflared_session",
    "colab_ssh",
    "colab_ssh_session",
    "colab_vm",
    "connection_code",
    "daemons",
    "environments",
    "interpreter",
    "jobdir",
    "ngrok_session",
    "processes",
    "requirement_lines",
    "tunnel",
    "tunnel_files",
    "tunnels",
)
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class AgentArchive:
    """The zip and the program that unpacks it there."""

    content: bytes
    digest: str
    """sha256 of all sources in it, in hex; also its name on the runtime."""
    boot: str
    """Source of `agent/boot.py`."""

    @property
    def boot_line(self) -> str:
        """The same for `python3 -c`, in one line: csh takes none with a line end between quotes."""
        coded = base64.b64encode(self.boot.encode("utf-8")).decode("ascii")
        # The remark is for who looks at the host's processes.
        return f'import base64; exec(base64.b64decode("{coded}")) # colabdev-agent'


def cell_sources() -> dict[str, str]:
    """What a notebook's cell needs of the agent, by its path in the archive that the cell makes."""
    package = resources.files("colabdev.agent")
    files = (f"{name}.py" for name in ("__init__", *_CELL_MODULES))
    modules = {
        f"{_PACKAGE_IN_ARCHIVE}/{file}": package.joinpath(file).read_text(encoding="utf-8")
        for file in files
    }
    return {"__main__.py": _ENTRY, **modules}


def build_agent() -> AgentArchive:
    """The agent of this colabdev, from the installed package's own source."""
    modules = {
        entry.name: entry.read_bytes()
        for entry in resources.files("colabdev.agent").iterdir()
        if entry.name.endswith(".py")
    }
    boot = modules.pop("boot.py").decode("utf-8")
    package = {f"{_PACKAGE_IN_ARCHIVE}/{name}": source for name, source in modules.items()}
    return pack({"__main__.py": _ENTRY.encode("utf-8"), **package}, boot)


def pack(sources: Mapping[str, bytes], boot: str) -> AgentArchive:
    """Those sources, by their paths in the agent, as an archive that `boot` unpacks."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(sources):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, sources[name])
    return AgentArchive(buffer.getvalue(), digest_of(sources), boot)
