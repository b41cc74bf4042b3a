"""What the attempts at an attachment have said since it was last as wanted: how many failed, and the first error.

A driver that is asked again while it still works answers Aborted, and so hides why the first call failed. The first
error that says something is kept for people; no decision rests on any of this, and a new process starts anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from csisidecar.errors import CSIError, StatusCode

if TYPE_CHECKING:
    from csisidecar.kube import Attachment, ObjectKey

Op = Literal["attach", "detach"]

_SAYS_LITTLE = frozenset({StatusCode.ABORTED, StatusCode.CANCELED})
"""Something else is going on, or we gave up ourselves: neither is why the volume is not there."""


@dataclass(slots=True)
class History:
    """Failed attempts at one attachment, in one direction."""

    uid: str
    op: Op
    attempts: int = 0
    first_error: str = ""
    """The first error that says why; until there is one, the first of all."""
    says_why: bool = False
    is_late: bool = False
    """Whether people were told that it takes too long."""


class Histories:
    """Histories of the attachments that are not as wanted."""

    def __init__(self) -> None:
        self._by_key: dict[ObjectKey, History] = {}

    def find(self, attachment: Attachment) -> History | None:
        """What is remembered of `attachment`, None while all is well."""
        found = self._by_key.get(attachment.key)
        return found if found is not None and (found.uid, found.op) == (attachment.uid, op_of(attachment)) else None

    def get(self, attachment: Attachment) -> History:
        """What is remembered of `attachment`, from now on."""
        found = self.find(attachment)
        if found is None:
            found = self._by_key[attachment.key] = History(attachment.uid, op_of(attachment))
        return found

    def failed(self, attachment: Attachment, error: Exception) -> History:
        """Remember a failed attempt."""
        history = self.get(attachment)
        history.attempts += 1
        says_why = not (isinstance(error, CSIError) and error.code in _SAYS_LITTLE)
        if not history.first_error or (says_why and not history.says_why):
            history.first_error, history.says_why = str(error), says_why
        return history

    def forget(self, key: ObjectKey) -> None:
        """The attachment is as wanted, or gone."""
        self._by_key.pop(key, None)

    def is_of_another(self, attachment: Attachment) -> bool:
        """Whether what is remembered under its key is about an earlier object of the same name."""
        found = self._by_key.get(attachment.key)
        return found is not None and found.uid != attachment.uid


def op_of(attachment: Attachment) -> Op:
    """What is wanted of `attachment` now."""
    return "detach" if attachment.is_deleting else "attach"
