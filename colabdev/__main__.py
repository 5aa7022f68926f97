"""`python -m colabdev`, for when the `colabdev` script is not on the PATH."""

import sys

from colabdev.cli.app import main

sys.exit(main())
