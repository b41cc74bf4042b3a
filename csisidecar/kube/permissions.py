"""Which writes the API server refuses for want of a rule in a role: remembered while that lasts, for people to read.

Reads need no memory of this kind: whoever lists or watches is stuck without, and says so itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from csisidecar.errors import ForbiddenError

if TYPE_CHECKING:
    from csisidecar.clock import Clock
    from csisidecar.errors import KubeError

logger = logging.getLogger(__name__)

FORGET_S = 600.0
"""A refusal that is not repeated for so long concerns nobody any more; twice the longest default pause of a key."""


class Permissions:
    """What one user of the API server was refused.

    Args:
        clock: how long ago that was.
        owner: who wants to write, for the log.
    """

    def __init__(self, clock: Clock, *, owner: str) -> None:
        self._clock = clock
        self._owner = owner
        self._missing: dict[tuple[str, str], tuple[str, float]] = {}

    @property
    def reason(self) -> str:
        """The rules that are missing, as YAML, and what to do; empty when none is."""
        since_s = self._clock.monotonic() - FORGET_S
        rules = sorted({rule for rule, refused_s in self._missing.values() if refused_s >= since_s})
        return f"the role lacks {', '.join(rules)}: grant it" if rules else ""

    def answered(self, verb: str, resource: str, error: KubeError | None) -> None:
        """Note how a write ended; `error` is None for a success.

        Admission answers 403 as well, and no rule helps against that: only the words of an authorizer count.
        Source: kubernetes/apiserver `pkg/endpoints/handlers/responsewriters/errors.go`, forbiddenMessage.
        """
        key = (verb, resource)
        if isinstance(error, ForbiddenError):
            if f' cannot {verb} resource "' not in str(error):
                return
            if key not in self._missing:
                logger.warning(
                    "no permission for a write", extra={"plugin": self._owner, "missing_rule": error.missing_rule}
                )
            self._missing[key] = (error.missing_rule, self._clock.monotonic())
        elif error is None and self._missing.pop(key, None) is not None:
            logger.info("permission is there now", extra={"plugin": self._owner, "verb": verb, "resource": resource})
