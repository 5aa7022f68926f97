"""The part of the command line's composition root that has to do with notebooks; see `cli.wiring`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colabdev.core.connection_codes import check_code
from colabdev.core.tunnels import AUTO, CLOUDFLARED, NOTEBOOK, choose_tunnel

if TYPE_CHECKING:
    from colabdev.config.places import Places
    from colabdev.core.connection_codes import Told
    from colabdev.core.notebook_cell import FilledNotebook
    from colabdev.providers.notebook import NotebookProvider
    from colabdev.providers.ssh import Connect

TOKEN_SECRET = "NGROK_AUTHTOKEN"
"""The name under which the cell finds the user's ngrok token with Colab, or asks for it."""


class NotebookWiring:
    """Builds what a command asks of a notebook's machine, once it asks."""

    def __init__(self, places: Places, connect: Connect) -> None:
        self._places = places
        self._connect = connect
        self._code: Told | None = None

    def take_code(self, typed: str) -> Told:
        """The code of a machine, which this command is about from now on."""
        self._code = check_code(typed, datetime.now(UTC))
        return self._code

    def provider(self) -> NotebookProvider:
        from colabdev.providers.notebook import NotebookProvider
        from colabdev.tunnels.cloudflared import command_to

        return NotebookProvider(
            self._places.notebooks_dir,
            self._connect,
            lambda told: command_to(told, os.environ),
            self._code,
        )

    def fill(
        self,
        tunnel: str | None,
        *,
        public_key: Callable[[], str],
        has_ngrok_token: Callable[[], bool],
        check_tunnel: Callable[[str], None],
    ) -> FilledNotebook:
        """The notebook whose cell makes a browser's Colab reachable from here."""
        from colabdev.adapters.agent_archive import cell_sources
        from colabdev.adapters.templates import notebook_template
        from colabdev.core.notebook_cell import fill_notebook

        kind = choose_tunnel(NOTEBOOK, tunnel or AUTO, has_ngrok_token=has_ngrok_token).kind
        check_tunnel(kind)
        return fill_notebook(
            notebook_template(),
            public_key=public_key(),
            settings={"tunnel": kind, **_asked_of_cell(kind)},
            sources=cell_sources(),
        )

    def write(self, file: Path, notebook: FilledNotebook) -> Path:
        """Write it to a file that is not there yet; returns its whole path."""
        from colabdev.adapters.templates import write_notebook

        return write_notebook(file, notebook.text)


def _asked_of_cell(kind: str) -> Mapping[str, Any]:
    """What the cell has the machine's supervisor do, to a port that it will know."""
    if kind == CLOUDFLARED:
        from colabdev.tunnels.cloudflared import asked_of_runtime

        return {"asked": asked_of_runtime(os.environ, 0, {}), "secret": ""}
    from colabdev.models.tunnels import TunnelUse
    from colabdev.tunnels.ngrok import NgrokServer, asked_of_ngrok

    use, server = TunnelUse(kind), NgrokServer.from_environment(os.environ)
    return {"asked": asked_of_ngrok(use, 0, server), "secret": TOKEN_SECRET}
