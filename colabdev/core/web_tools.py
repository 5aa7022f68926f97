"""Programs with a web page of their own, as jobs on a runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Below the ports that systems give away by themselves.
FIRST_PORT, LAST_PORT = 20000, 32767

# Colab has the older of the two.
_START_JUPYTER = """for name in jupyter-lab jupyter-notebook; do
  command -v $name >/dev/null && exec $name "$@"
done
echo 'neither jupyter-lab nor jupyter-notebook is on the PATH' >&2
exit 127"""


@dataclass(frozen=True, slots=True)
class WebTool:
    """A program that serves a web page at a port of 127.0.0.1, which stands last on its command line."""

    name: str
    """The job's, too."""
    argv: Sequence[str]
    typed: Sequence[str]
    """What `ps` shows, and what is the same tool with the same page."""
    install: str
    """What makes it available on a runtime that lacks it."""
    token_variable: str = ""
    """The variable by which it takes the secret that its page asks for; "" when that asks for none."""

    def port_of(self, typed: Sequence[str]) -> int | None:
        """The port of a job that was started by these words; None when it is another tool or page."""
        *words, port = typed
        return int(port) if tuple(words) == tuple(self.typed) and port.isdecimal() else None


def tensorboard(logdir: str) -> WebTool:
    """TensorBoard for a folder below the work dir."""
    words = ("tensorboard", "--logdir", logdir, "--host", "127.0.0.1", "--port")
    return WebTool("tensorboard", words, words, install="colabdev run -m pip install tensorboard")


def jupyter() -> WebTool:
    """JupyterLab in the work dir, or Jupyter Notebook where that is what there is."""
    options = ("--no-browser", "--allow-root", "--ip", "127.0.0.1", "--port-retries", "0", "--port")
    return WebTool(
        "jupyter",
        ("sh", "-c", _START_JUPYTER, "jupyter", *options),
        ("jupyter", *options),
        install="colabdev run -m pip install jupyterlab",
        token_variable="JUPYTER_TOKEN",
    )
