"""The program: `colabdev`, and `python -m colabdev` where that script is not on the PATH."""

import gc
import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, and leave with its status.

    Python's own way out takes everything apart that was loaded, which is a fifth of a short command.
    Nothing of ours waits for that: threads are daemons, and files are closed where they were opened.
    """
    status = run()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(status)  # Python says what could not be written.
    os._exit(status)


def run() -> int:
    """The command line's status; Ctrl-C counts from the first moment, before anything is imported."""
    # Importing makes a hundred thousand objects and no garbage; looking for some takes a twentieth of
    # a short command's time.
    gc.set_threshold(200_000)
    try:
        # Asked once: an interpreter that was told to ignore its environment would begin for ever.
        if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
            _begin_again_in_utf8()
        from colabdev.cli.app import main as run_app

        return run_app()
    except KeyboardInterrupt:
        return 130
    finally:
        # All is said: one more Ctrl-C must not make another status of it while Python ends.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _begin_again_in_utf8() -> None:
    """A name is the same text in every locale: it goes to runtimes and into files, and comes back."""
    # What is shown stays in the terminal's own encoding.
    shown = getattr(sys.stdout, "encoding", None) or "utf-8"
    environment = {"PYTHONIOENCODING": f"{shown}:backslashreplace", **os.environ, "PYTHONUTF8": "1"}
    os.execve(sys.executable, sys.orig_argv, environment)


if __name__ == "__main__":
    main()
