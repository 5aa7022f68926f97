"""The program: `colabdev`, and `python -m colabdev` where that script is not on the PATH."""

import gc
import sys


def main() -> int:
    """Run the command line; Ctrl-C counts from the first moment, before anything is imported."""
    # Importing makes a hundred thousand objects and no garbage; looking for some takes a twentieth of
    # a short command's time.
    gc.set_threshold(200_000)
    try:
        from colabdev.cli.app import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
