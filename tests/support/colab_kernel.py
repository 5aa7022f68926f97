"""A kernel of a runtime over its websocket, frame by frame: what Google's own clients do, and what a
library would hide."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import websocket

from tests.support.colab import REQUEST_TIMEOUT_S, Machine, ask, end_socket

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]
"""The `value` with which a client answers a `colab_request`; None: it does not answer."""


@dataclass(slots=True)
class Outcome:
    """What came of one cell."""

    reply: dict[str, Any]
    text: str = ""
    error: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Every `colab_request`, whole."""


class Kernel:
    """A new kernel, or with `kernel_id` one that is there, with a websocket of its own."""

    def __init__(self, machine: Machine, *, kernel_id: str = "", token_in_query: bool = False):
        self.id = kernel_id or start_kernel(machine)
        self.session = uuid.uuid4().hex
        url = f"{machine.url}/api/kernels/{self.id}/channels?session_id={self.session}"
        headers = dict(machine.headers)
        if token_in_query:
            url += f"&colab-runtime-proxy-token={headers.popitem()[1]}"
        self.socket = websocket.create_connection(
            url.replace("http", "ws", 1), header=headers, timeout=REQUEST_TIMEOUT_S
        )

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        end_socket(self.socket)

    def send(self, channel: str, kind: str, content: dict[str, Any]) -> str:
        """The new message's id."""
        message_id = uuid.uuid4().hex
        header = {
            "msg_id": message_id,
            "msg_type": kind,
            "session": self.session,
            "username": "username",
            "version": "5.3",
        }
        message = {
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
            "channel": channel,
        }
        self.socket.send(json.dumps(message))
        return message_id

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv())
        return message

    def execute(self, code: str, answer: Answer = lambda _: None) -> Outcome:
        """Until both the reply and the idle status have come."""
        content = {"code": code, "silent": False, "allow_stdin": True}
        asked = self.send("shell", "execute_request", content)
        outcome = Outcome({})
        idle = False
        while not (idle and outcome.reply):
            message = self.receive()
            if message["msg_type"] == "colab_request":
                self._answer(message, outcome, answer)
            elif message["parent_header"].get("msg_id") == asked:
                idle = idle or message["content"].get("execution_state") == "idle"
                self._take(message, outcome)
        return outcome

    def _answer(self, message: dict[str, Any], outcome: Outcome, answer: Answer) -> None:
        outcome.requests.append(message)
        value = answer(message["content"]["request"])
        if value is not None:
            message_id = message["metadata"]["colab_msg_id"]
            reply = {"type": "colab_reply", "colab_msg_id": message_id, **value}
            self.send("stdin", "input_reply", {"value": reply})

    def _take(self, message: dict[str, Any], outcome: Outcome) -> None:
        content = message["content"]
        if message["msg_type"] == "execute_reply":
            outcome.reply = content
        elif message["msg_type"] == "stream":
            outcome.text += content["text"]
        elif message["msg_type"] == "error":
            outcome.error = f"{content['ename']}: {content['evalue']}"


def start_kernel(machine: Machine) -> str:
    """A session of a notebook, and the id of its kernel."""
    body = {
        "name": "colabdev",
        "path": f"/{uuid.uuid4().hex}",
        "type": "console",
        "kernel": {"id": "", "name": "python3"},
    }
    headers = {**machine.headers, "Content-Type": "application/json"}
    made = ask(
        "POST", f"{machine.url}/api/sessions", headers=headers, body=json.dumps(body).encode()
    )
    assert made.status == 201, made
    kernel_id: str = made.json["kernel"]["id"]
    return kernel_id
