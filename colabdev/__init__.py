"""colabdev: a Google Colab GPU as a machine you develop on from your own editor and terminal.

`connect`, `Runtime`, `Job` and `ColabdevError` are the Python API; see `colabdev.api`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from colabdev.api import Job as Job
    from colabdev.api import Runtime as Runtime
    from colabdev.api import connect as connect
    from colabdev.errors import ColabdevError as ColabdevError

    __version__: str

_PLACES = {
    "__version__": ("colabdev.version", "VERSION"),
    "ColabdevError": ("colabdev.errors", "ColabdevError"),
    "Job": ("colabdev.api", "Job"),
    "Runtime": ("colabdev.api", "Runtime"),
    "connect": ("colabdev.api", "connect"),
}


def __getattr__(name: str) -> object:
    # Lazy, so that importing one module of the package never pays for another.
    if name not in _PLACES:
        raise AttributeError("module {!r} has no attribute {!r}".format(__name__, name))
    from importlib import import_module

    module, there = _PLACES[name]
    return getattr(import_module(module), there)


def __dir__() -> "list[str]":
    return sorted(_PLACES)
