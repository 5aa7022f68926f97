"""The user's browser."""

from __future__ import annotations

import http.server
import os
import secrets
import shutil
import threading
import webbrowser
from collections.abc import Mapping

from colabdev.adapters.processes import ask
from colabdev.adapters.windows import is_beside_windows

_RUNDLL = "/mnt/c/Windows/System32/rundll32.exe"  # Where it is with interop's PATH switched off.


def open_browser(url: str, environment: Mapping[str, str]) -> bool:
    """Show the page; False when there is no browser that shows it beside us."""
    if is_beside_windows(environment) and _open_on_windows(url):
        return True
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    # A text browser would take our terminal, unless that is what the user asks for.
    if type(browser) is webbrowser.GenericBrowser and not os.environ.get("BROWSER"):
        return False
    return browser.open(url)


def open_privately(url: str, environment: Mapping[str, str]) -> bool:
    """As `open_browser` for an address with a secret in it: a browser's command line can be read by
    everybody on this computer, so it gets an address of ours that leads there, once."""
    door = _Door(url)
    threading.Thread(target=door.serve_forever, daemon=True).start()
    opened = open_browser(door.address, environment)
    if not opened:
        door.shutdown()
    return opened


def _open_on_windows(url: str) -> bool:
    program = shutil.which("rundll32.exe") or _RUNDLL
    done = ask([program, "url.dll,FileProtocolHandler", url], cwd="/")
    return done is not None and done.returncode == 0


class _Door(http.server.ThreadingHTTPServer):
    """Leads the first who knows its name to `url`, and nobody after that."""

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self._url = url
        self._path = f"/{secrets.token_urlsafe(24)}"
        self._lock = threading.Lock()
        self.address = f"http://127.0.0.1:{self.server_port}{self._path}"

    def take(self, path: str) -> str | None:
        """Where that path leads; None when nowhere, or no more."""
        with self._lock:
            if path != self._path:
                return None
            self._path = ""
            return self._url


class _Visit(http.server.BaseHTTPRequestHandler):
    server: _Door

    def do_GET(self) -> None:
        url = self.server.take(self.path)
        if url is None:
            self.send_error(404)
            return
        self.send_response(302)
        self.send_header("Location", url)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nobody is to read the addresses."""
