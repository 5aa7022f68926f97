"""The program: `colabdev`, and `python -m colabdev` where that script is not on the PATH."""

import sys


def main() -> int:
    """Run the command line; Ctrl-C counts from the first moment, before anything is imported."""
    try:
        from colabdev.cli.app import main as run

        return run()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
