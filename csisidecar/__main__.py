"""`python -m csisidecar` is the command `csisidecar`."""

from __future__ import annotations

import sys

from csisidecar.cli import main

if __name__ == "__main__":
    sys.exit(main())
