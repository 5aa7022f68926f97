"""One Jupyter kernel of a runtime, over its websocket: runs cells, and answers what they ask."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import requests

from colabdev.errors import ColabdevError, RuntimeLost, RuntimeUnreachable
from colabdev.providers.colab.client import Assignment
from colabdev.providers.colab.websockets import Closed, UpgradeRefused, WebSocket, open_websocket
from colabdev.providers.colab.wire import AGENT_HEADER, PROXY_TOKEN_HEADER

START_TIMEOUT_S = 180.0
"""A new machine hangs, or answers with errors, for a while."""
_REQUEST_TIMEOUT_S = 30.0
_NUDGE_S = 1.0
_RETRY_S = 3.0
_SESSION_PATH = "/colabdev"
"""Asked for again, Jupyter answers with the session of that path, and so with the same kernel."""

Answer = Callable[[str, Mapping[str, Any]], str | None]
"""Answers a cell's request to its client, by kind and content: None, or why that is impossible."""

IsGone = Callable[[], bool]
"""Whether Colab says that the runtime is not there any more."""


class CellFailed(ColabdevError):
    """The code raised; `kind` is the exception's name there."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(
            f"the runtime's kernel raised {kind}: {text}", hint="colabdev connect tries again"
        )
        self.kind = kind
        self.text = text


def start_kernel(
    assignment: Assignment,
    *,
    timeout_s: float = START_TIMEOUT_S,
    is_gone: IsGone = lambda: False,
) -> str:
    """The id of the runtime's kernel, waited for while the machine starts; RuntimeLost when it went."""
    body = {
        "name": "colabdev",
        "path": _SESSION_PATH,
        "type": "console",
        "kernel": {"id": "", "name": "python3"},
    }
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = requests.post(
                f"{assignment.url}/api/sessions",
                json=body,
                headers=proxy_headers(assignment),
                timeout=_REQUEST_TIMEOUT_S,
                allow_redirects=False,
            )
            if answer.status_code == 201:
                return str(answer.json()["kernel"]["id"])
            cause = f"its Jupyter server answered with {answer.status_code}"
            # A token that is too old is answered so, and a runtime that Colab has taken.
            if answer.status_code in (401, 404) and is_gone():
                raise RuntimeLost(
                    f"Colab took {assignment.endpoint} before it could be used",
                    hint="colabdev connect asks for another one",
                )
        except (requests.RequestException, ValueError, KeyError, TypeError) as exc:
            cause = type(exc).__name__
        if time.monotonic() >= deadline:
            raise RuntimeUnreachable(
                f"cannot use the runtime {assignment.endpoint}: {cause}, for {timeout_s:.0f} s",
                hint="colabdev connect goes on with it; colabdev down gives it back",
            )
        time.sleep(min(_RETRY_S, max(deadline - time.monotonic(), 0)))


def proxy_headers(assignment: Assignment) -> dict[str, str]:
    """What every request to a runtime's proxy carries."""
    return {**AGENT_HEADER, PROXY_TOKEN_HEADER: assignment.token}


def open_channels(assignment: Assignment, kernel_id: str, session: str) -> WebSocket:
    """The kernel's websocket; while it is open Colab takes the runtime for used."""
    url = f"{assignment.url}/api/kernels/{kernel_id}/channels?session_id={session}"
    try:
        return open_websocket(url, proxy_headers(assignment))
    except UpgradeRefused as exc:
        raise RuntimeUnreachable(
            f"cannot open the kernel of {assignment.endpoint}: {exc.status}",
            hint="colabdev status says how the runtime stands",
        ) from exc


class Kernel:
    """A kernel with a websocket of our own. One cell at a time."""

    def __init__(
        self, assignment: Assignment, answer: Answer, *, is_gone: IsGone = lambda: False
    ) -> None:
        self._answer = answer
        self._session = uuid.uuid4().hex
        kernel_id = start_kernel(assignment, is_gone=is_gone)
        self._socket = open_channels(assignment, kernel_id, self._session)
        try:
            self._wait_until_it_answers()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def run(self, code: str, *, timeout_s: float) -> str:
        """What the cell printed. `CellFailed` when it raised, `RuntimeUnreachable` when its end is not
        known: the kernel died, the path was cut, or time was up."""
        content = {
            "code": code,
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": True,
            "stop_on_error": True,
        }
        cell = _Cell(self._send("shell", "execute_request", content))
        try:
            self._follow(cell, time.monotonic() + timeout_s)
        except TimeoutError as exc:
            raise RuntimeUnreachable(
                "the runtime's kernel does not answer in time; another cell may keep it busy",
                hint="colabdev connect tries again",
            ) from exc
        if cell.failure is not None:
            raise cell.failure
        return cell.printed

    def _wait_until_it_answers(self) -> None:
        """On both of its channels: one that died is started again some seconds later, and what it was
        sent meanwhile, or says before somebody listens, is lost."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            question = _Cell(self._send("shell", "kernel_info_request", {}))
            try:
                self._follow(question, min(time.monotonic() + _NUDGE_S, deadline))
            except TimeoutError as exc:
                if time.monotonic() >= deadline:
                    raise RuntimeUnreachable(
                        f"the runtime's kernel does not answer, for {START_TIMEOUT_S:.0f} s",
                        hint="colabdev connect goes on with it; colabdev down gives it back",
                    ) from exc
                continue
            if question.failure is None:
                return

    def _follow(self, cell: _Cell, deadline: float) -> None:
        """Take what comes of the cell until it is done; TimeoutError at the deadline."""
        while not cell.is_done:
            message = self._receive(deadline)
            if message.get("msg_type") == "colab_request":
                self._answer_request(message)
            else:
                cell.take(message)

    def _answer_request(self, message: Mapping[str, Any]) -> None:
        """Always, also with a failure: the kernel waits for it. Not for other clients' cells."""
        if message["parent_header"].get("session") != self._session:
            return
        metadata, content = message["metadata"], message["content"]
        request = content.get("request")
        try:
            problem = self._answer(
                str(metadata.get("colab_request_type")),
                request if isinstance(request, dict) else {},
            )
        except ColabdevError as exc:
            problem = exc.message
        value = {"type": "colab_reply", "colab_msg_id": metadata.get("colab_msg_id")}
        if problem is not None:
            value["error"] = problem
        self._send("stdin", "input_reply", {"value": value})

    def _send(self, channel: str, kind: str, content: Mapping[str, Any]) -> str:
        message_id = uuid.uuid4().hex
        header = {
            "msg_id": message_id,
            "msg_type": kind,
            "session": self._session,
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
        try:
            self._socket.send(json.dumps(message))
        except (Closed, OSError) as exc:
            raise _cut() from exc
        return message_id

    def _receive(self, deadline: float) -> dict[str, Any]:
        try:
            text = self._socket.recv(timeout=max(deadline - time.monotonic(), 0))
            message = json.loads(text)
        except TimeoutError:
            raise
        except (Closed, OSError) as exc:
            raise _cut() from exc
        except ValueError:
            return {}  # A binary frame of somebody's widget.
        return message if isinstance(message, dict) and "parent_header" in message else {}


class _Cell:
    """What came of one cell so far. It is done when both the reply and the idle status have come."""

    def __init__(self, message_id: str) -> None:
        self._id = message_id
        self._replied = self._idle = False
        self.printed = ""
        self.failure: ColabdevError | None = None

    @property
    def is_done(self) -> bool:
        return self._replied and self._idle

    def take(self, message: Mapping[str, Any]) -> None:
        kind, content = message.get("msg_type"), message.get("content", {})
        parent = message.get("parent_header") or {}
        state = content.get("execution_state") if kind == "status" else None
        if state in ("starting", "restarting", "dead") and not parent:
            self._replied = self._idle = True
            self.failure = RuntimeUnreachable(
                "the runtime's kernel died", hint="colabdev connect goes on with a new one"
            )
        if parent.get("msg_id") != self._id:
            return
        self._idle = self._idle or state == "idle"
        if kind in ("execute_reply", "kernel_info_reply"):
            self._replied = True
        elif kind == "stream" and content.get("name") == "stdout":
            self.printed += str(content.get("text", ""))
        elif kind == "error":
            self.failure = CellFailed(str(content.get("ename")), str(content.get("evalue")))


def _cut() -> RuntimeUnreachable:
    return RuntimeUnreachable(
        "the connection to the runtime's kernel was cut", hint="colabdev connect goes on"
    )
