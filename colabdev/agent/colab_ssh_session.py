"""The classic `launch_ssh` of colab-ssh, and the ngrok session that its endpoint is, as a process that
`tunnel.Supervisor` keeps, and by whose rules it speaks.

`python3 <agent> colab-ssh`. Settings: those of `ngrok_session`; `port` is that of the private
SSH server of a machine that `colab_vm` has set up. The token stays in this process: `launch_ssh` gets
a placeholder.
"""

from __future__ import annotations

import importlib
import json
import queue
import sys
import threading
from typing import Any, Dict, List, Union

from . import colab_ssh, colab_vm, ngrok_session

Address = Union[str, BaseException]


def main(arguments: List[str]) -> int:
    """Hold the session until stdin ends; as `ngrok_session.main`."""
    told = json.loads(sys.stdin.buffer.readline().decode("ascii"))
    threading.Thread(target=ngrok_session.end_with_stdin, daemon=True).start()
    if colab_vm.read("port").strip() != str(told["settings"]["port"]):
        why = (
            "launch_ssh changes root's password, so it is run only on a VM that colabdev has set up"
        )
        ngrok_session.fail(OSError(why))
    launch = _Launch()
    launch.wait_until_wanted()
    try:
        ngrok = importlib.import_module("ngrok")
        ngrok_session.run(ngrok, told["settings"], told["secret"], launch.tell)
    except (ImportError, ValueError, OSError) as exc:
        launch.tell_failure(exc)
        ngrok_session.fail(exc)
    return 1


class _Launch:
    """`launch_ssh` in a thread; the session belongs to the first one."""

    def __init__(self) -> None:
        self._wanted: "queue.Queue[bool]" = queue.Queue()
        self._address: "queue.Queue[Address]" = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait_until_wanted(self) -> None:
        """Until it is time for the endpoint to be opened. Does not return when that never comes."""
        self._wanted.get()

    def tell(self, end: Dict[str, Any]) -> None:
        """Give it the endpoint that was opened; it is said once `launch_ssh` has come to its end."""
        self._address.put("tcp://{host}:{port}".format(**end))
        threading.Thread(target=self._say_when_done, args=(end,), daemon=True).start()

    def tell_failure(self, error: BaseException) -> None:
        """Let it put back what it has changed."""
        self._address.put(error)
        self._thread.join()

    def _run(self) -> None:
        try:
            colab_ssh.launch(self._open)
        except (colab_ssh.LaunchFailed, OSError) as exc:
            ngrok_session.fail(exc)
        except ValueError:
            pass  # The session's, which the first thread tells.

    def _open(self) -> str:
        self._wanted.put(True)
        address = self._address.get()
        if isinstance(address, BaseException):
            raise ValueError(str(address))
        return address

    def _say_when_done(self, end: Dict[str, Any]) -> None:
        self._thread.join()
        ngrok_session.say({"endpoint": end})
