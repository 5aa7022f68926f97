"""The stand-in for Colab (`tests/support/colab_server`), as a test has it: started, asked, ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import websocket

CHECKOUT = Path(__file__).parents[2]
XSSI_PREFIX = b")]}'\n"
START_TIMEOUT_S = 20
REQUEST_TIMEOUT_S = 30
END_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered. `status` is 0 when the connection broke."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The document, with or without the XSSI prefix."""
        return json.loads(self.body.removeprefix(XSSI_PREFIX))


def ask(
    method: str,
    url: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> Reply:
    """One HTTP request; no status is an error."""
    request = urllib.request.Request(url, data=body, headers=headers or {}, method=method)
    # Never through a proxy of the environment: everything here is on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=REQUEST_TIMEOUT_S) as answer:
            return Reply(answer.status, answer.read(), dict(answer.headers))
    except urllib.error.HTTPError as exc:
        with exc:
            return Reply(exc.code, exc.read(), dict(exc.headers))
    except (urllib.error.URLError, OSError):
        return Reply(0, b"", {})


class Colab:
    """Running from construction to `stop`, or to the end of the `with` block."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.colab_server", f"--state={state}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the stand-in did not start; its message is above"
        told = json.loads(line)
        self.base_url: str = told["base_url"]
        self.control_url: str = told["control_url"]
        self.token: str = told["token"]

    def __enter__(self) -> Colab:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it and everything in it. Harmless twice."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise
        if self.process.stdout is not None:
            self.process.stdout.close()

    # --- as a client of Colab's ---

    def call(self, method: str, path: str, *, token: str | None = None, **more: str) -> Reply:
        """One request to the backend; `more` are headers, with `_` for `-`."""
        headers = {name.replace("_", "-"): value for name, value in more.items()}
        headers.setdefault("Authorization", f"Bearer {token or self.token}")
        joint = "&" if "?" in path else "?"
        return ask(method, f"{self.base_url}{path}{joint}authuser=0", headers=headers)

    def post(self, path: str) -> Reply:
        """GET the XSRF token, then POST to the same address."""
        got = self.call("GET", path)
        assert got.status == 200, got
        return self.call("POST", path, X_Goog_Colab_Token=got.json["token"])

    def assign(self, accelerator: str = "NONE", notebook_hash: str | None = None) -> Any:
        """The runtime of this notebook, made when there is none; without one a new runtime."""
        path = assign_path(accelerator, notebook_hash or new_notebook_hash())
        looked_up = self.call("GET", path)
        if "endpoint" in looked_up.json:
            return looked_up.json
        answer = self.call("POST", path, X_Goog_Colab_Token=looked_up.json["token"])
        assert answer.status == 200, answer
        return answer.json

    # --- as who controls it ---

    def control(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        answer = ask(method, f"{self.control_url}{path}", body=data)
        assert answer.status == 200, answer
        return answer.json

    def describe(self) -> Any:
        return self.control("GET", "/")

    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = self.describe()["counters"]
        return counters

    def requests(self, path_ends: str = "") -> list[dict[str, Any]]:
        """What clients sent to paths that end so, oldest first."""
        all_requests: list[dict[str, Any]] = self.control("GET", "/requests")
        return [one for one in all_requests if one["path"].endswith(path_ends)]

    def fault(self, name: str, value: Any, times: int | None = None) -> None:
        self.control("POST", "/faults", {"name": name, "value": value, "times": times})

    def facts(self, **wanted: Any) -> None:
        self.control("POST", "/facts", wanted)

    def advance(self, seconds: float) -> None:
        self.control("POST", "/clock", {"advance_s": seconds})

    def account(self, **wanted: Any) -> None:
        self.control("POST", "/accounts", wanted)

    def tokens(self, **wanted: Any) -> Any:
        return self.control("POST", "/tokens", wanted)

    def do(self, action: str, endpoint: str, **more: Any) -> Any:
        return self.control("POST", f"/do/{action}", {"endpoint": endpoint, **more})

    def reset(self, *, keep_runtimes: bool = False) -> None:
        self.control("POST", "/reset", {"keep_runtimes": keep_runtimes})

    def drive(self) -> list[dict[str, Any]]:
        files: list[dict[str, Any]] = self.control("GET", "/drive")
        return files


def new_notebook_hash() -> str:
    return str(uuid.uuid4()).replace("-", "_").ljust(44, ".")


def assign_path(accelerator: str, notebook_hash: str) -> str:
    wanted = {"nbh": notebook_hash}
    if accelerator != "NONE":
        variant = "TPU" if accelerator.startswith("V") else "GPU"
        wanted |= {"variant": variant, "accelerator": accelerator}
    return f"/tun/m/assign?{urllib.parse.urlencode(wanted)}"


def end_socket(socket: websocket.WebSocket) -> None:
    """Close it, also when the other end is gone already: `close` alone then leaves it open."""
    socket.close()
    socket.shutdown()  # type: ignore[no-untyped-call]


class Machine:
    """One runtime as its user reaches it: `assignment` is what assign or assignments answered."""

    def __init__(self, assignment: Any) -> None:
        self.endpoint: str = assignment["endpoint"]
        self.url: str = assignment["runtimeProxyInfo"]["url"]
        self.token: str = assignment["runtimeProxyInfo"]["token"]

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Colab-Runtime-Proxy-Token": self.token}

    def get(self, path: str) -> Reply:
        return ask("GET", f"{self.url}{path}", headers=self.headers)
