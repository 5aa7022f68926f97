"""Where the stand-in for cloudflared is got from, and where its quick tunnels meet their users."""

from __future__ import annotations

import contextlib
import json
import os
import random
import string
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_PROGRAM = Path(__file__).with_name("cloudflared_program.py")


class QuickTunnels:
    """The tunnels, and the program that makes and uses them, from construction to `close`."""

    def __init__(self, folder: Path) -> None:
        tunnels = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                answer = tunnels.answer(asked.path, dict(parse_qsl(asked.query)))
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self._refusal = ""
        self._tunnels: dict[str, dict[str, int]] = {}
        self.program = folder / "cloudflared"
        folder.mkdir(parents=True)
        self.program.write_bytes(self._source)
        self.program.chmod(0o755)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def download_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/cloudflared"

    def names(self) -> list[str]:
        """All tunnels that were made, oldest first."""
        return list(self._tunnels)

    def pid(self, name: str) -> int:
        """The process of a tunnel, by its own word."""
        return self._tunnels[name]["pid"]

    def is_up(self, name: str) -> bool:
        """Its process, one of this computer's, runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid(name), 0)
            return True
        return False

    def refuse(self, line: str) -> None:
        """Have every new tunnel fail with this line; "" for no more."""
        self._refusal = line

    def answer(self, path: str, asked: dict[str, str]) -> bytes:
        if path == "/cloudflared":
            return self._source
        if path == "/find":
            return json.dumps(self._tunnels.get(asked["name"], {})).encode()
        if self._refusal:
            return json.dumps({"refusal": self._refusal}).encode()
        words = ("".join(random.choices(string.ascii_lowercase, k=6)) for _ in range(4))
        name = "-".join(words) + ".trycloudflare.com"
        self._tunnels[name] = {key: int(value) for key, value in asked.items()}
        return json.dumps({"name": name}).encode()

    @property
    def _source(self) -> bytes:
        edge = f"http://127.0.0.1:{self._server.server_port}"
        source = _PROGRAM.read_text().replace("@EDGE@", edge)
        return f"#!{sys.executable}\n{source}".encode()
