"""Requests of the kernel to its client: `colab_request` on iopub, the answer on stdin."""

from __future__ import annotations

import itertools
import time
from typing import Any

import zmq
from ipykernel.kernelapp import IPKernelApp

_POLL_S = 0.025
_NOT_READY = object()
_ids = itertools.count(1)


class MessageError(Exception):
    """The client answered with an error."""


def blocking_request(kind: str, request: Any = "", timeout_sec: float | None = 5) -> Any:
    """The `data` of the client's answer; None after `timeout_sec`, when there was no answer."""
    return read_reply_from_input(send_request(kind, request), timeout_sec)


def send_request(kind: str, request: Any) -> int:
    """The number that the answer must carry."""
    kernel = _kernel()
    message_id = next(_ids)
    parent = {"header": {"session": kernel.shell.parent_header["header"]["session"]}}
    message = kernel.session.msg(
        "colab_request",
        content={"request": request},
        metadata={"colab_msg_id": message_id, "colab_request_type": kind},
        parent=parent,
    )
    kernel.session.send(kernel.iopub_socket, message)
    return message_id


def read_reply_from_input(message_id: int, timeout_sec: float | None) -> Any:
    """Everything else that arrives on stdin meanwhile is thrown away."""
    deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
    while deadline is None or time.monotonic() < deadline:
        reply = _next_input()
        if reply is _NOT_READY or not isinstance(reply, dict):
            time.sleep(_POLL_S)
        elif reply.get("type") == "colab_reply" and reply.get("colab_msg_id") == message_id:
            if "error" in reply:
                raise MessageError(reply["error"])
            return reply.get("data")
    return None


def _next_input() -> Any:
    kernel = _kernel()
    try:
        _, reply = kernel.session.recv(kernel.stdin_socket, zmq.NOBLOCK)
    except zmq.ZMQError:
        return _NOT_READY
    return _NOT_READY if reply is None else reply.get("content", {}).get("value", "")


def _kernel() -> Any:
    """The kernel that runs us: outside a notebook there is none, and nobody to ask."""
    if not IPKernelApp.initialized():
        raise RuntimeError("this only works in a notebook's kernel")
    return IPKernelApp.instance().kernel
