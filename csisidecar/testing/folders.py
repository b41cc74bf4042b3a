"""Where the programs of this room may put files: into folders that are there, and anywhere below the temporary one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from csisidecar.errors import ConfigError

if TYPE_CHECKING:
    from os import PathLike


def check_parent(path: str | PathLike[str], flag: str) -> None:
    """See to it that `path` can be made; a mistyped one must not leave folders behind.

    Raises:
        ConfigError: its folder is missing, or cannot be made below the temporary one.
    """
    parent = Path(path).absolute().parent
    if parent.is_dir():
        return
    if not parent.is_relative_to(tempfile.gettempdir()):
        raise ConfigError(f"{flag} {path}: the folder {parent} does not exist")
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{flag} {path}: {error.strerror}") from error
