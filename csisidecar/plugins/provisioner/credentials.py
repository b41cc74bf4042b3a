"""The live read of a Secret; its content goes to one CSI call and is kept nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.errors import KubeError, ThrottledError, UnusableObjectError
from csisidecar.kube import SECRETS
from csisidecar.mapping.secrets import decode_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from csisidecar.kube import KubeClient, SecretRef


async def fetch_credentials(
    kube: KubeClient, ref: SecretRef | None, *, looked_at: Callable[[str], None] = lambda _version: None
) -> dict[str, str]:
    """The content of the Secret, key → value; empty without a Secret.

    Args:
        kube: whom to ask.
        ref: which Secret.
        looked_at: told its resourceVersion, "" when it cannot be read.

    Raises:
        UnusableObjectError: it cannot be read, or is malformed; the message names it and never its content.
        ThrottledError: the API server asks to come back.
    """
    if ref is None:
        return {}
    try:
        secret = await kube.get(SECRETS, ref.name, namespace=ref.namespace)
        looked_at(str((secret.get("metadata") or {}).get("resourceVersion") or ""))
        return decode_secret(secret)
    except ThrottledError:
        raise
    except (KubeError, UnusableObjectError) as error:
        if isinstance(error, KubeError):
            looked_at("")
        raise UnusableObjectError(f"error getting secret {ref.name} in namespace {ref.namespace}: {error}") from error
