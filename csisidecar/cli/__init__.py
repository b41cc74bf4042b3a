"""The command line: flags, environment, signals, log set-up, exit codes; nowhere else.

Nothing imports this room but `python -m csisidecar` and the installed commands. Importing it is cheap; what is
heavy comes when a run begins, so that help, versions and flag errors answer at once.
"""

from __future__ import annotations

from csisidecar.cli.main import attacher_main, main, provisioner_main

__all__ = ["attacher_main", "main", "provisioner_main"]
