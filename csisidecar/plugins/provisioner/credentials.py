"""The live read of a Secret; its content goes to one CSI call and is kept nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from csisidecar.errors import KubeError, ThrottledError, UnusableObjectError
from csisidecar.kube import SECRETS
from csisidecar.mapping.secrets import decode_secret

if TYPE_CHECKING:
    from csisidecar.kube import KubeClient, SecretRef


async def fetch_credentials(kube: KubeClient, ref: SecretRef | None) -> dict[str, str]:
    """The content of the Secret, key → value; empty without a Secret.

    Raises:
        UnusableObjectError: it cannot be read, or is malformed; the message names it and never its content.
        ThrottledError: the API server asks to come back.
    """
    if ref is None:
        return {}
    try:
        return decode_secret(await kube.get(SECRETS, ref.name, namespace=ref.namespace))
    except ThrottledError:
        raise
    except (KubeError, UnusableObjectError) as error:
        raise UnusableObjectError(f"error getting secret {ref.name} in namespace {ref.namespace}: {error}") from error
