"""The command line, by ``python -m oche``."""

import sys

from oche.cli.main import main

sys.exit(main())
