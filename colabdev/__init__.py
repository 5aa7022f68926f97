"""colabdev: a Google Colab GPU as a machine you develop on from your own editor and terminal."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str


def __getattr__(name: str) -> str:
    # Lazy, so that importing one module of the package never pays for another.
    if name == "__version__":
        from colabdev.version import VERSION

        return VERSION
    raise AttributeError("module {!r} has no attribute {!r}".format(__name__, name))
