"""Giving a claim back to the scheduler, so that it may choose another node."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from csisidecar.errors import ConflictError, KubeError, NotFoundError, ThrottledError
from csisidecar.kube import PERSISTENT_VOLUME_CLAIMS
from csisidecar.plugins.provisioner import names

if TYPE_CHECKING:
    from csisidecar.kube import Claim, KubeClient

logger = logging.getLogger(__name__)


async def give_up_node(kube: KubeClient, claim: Claim, why: str) -> bool:
    """Take the selected node off the claim; whether that was done. Either is logged, with `why` it should be.

    False leaves the claim to its backoff: no node was selected, or the API server refused, or the claim is not
    as it was judged. The claim is read anew and written whole, as the shipped role allows no patch.

    Raises:
        ThrottledError: the API server asks to come back; nothing was written.

    Source: sig-storage-lib-external-provisioner `controller/controller.go`, rescheduleProvisioning.
    """
    node = claim.annotations.get(names.SELECTED_NODE)
    if node is None:
        return False
    told = {"claim": str(claim.key), "node": node, "why": why}
    try:
        live = await kube.get(PERSISTENT_VOLUME_CLAIMS, claim.name, namespace=claim.namespace)
        annotations = live["metadata"].get("annotations") or {}
        if live["metadata"].get("uid") != claim.uid or annotations.get(names.SELECTED_NODE) != node:
            logger.info("claim changed meanwhile and is not given back to the scheduler", extra=told)
            return False
        del annotations[names.SELECTED_NODE]
        await kube.update(PERSISTENT_VOLUME_CLAIMS, live)
    except ThrottledError as error:
        logger.info(
            "claim is given back to the scheduler when the API server allows", extra={**told, "error": str(error)}
        )
        raise
    except (ConflictError, NotFoundError) as error:
        # Somebody else changed the claim; it is looked at again.
        logger.info(
            "claim changed meanwhile and is not given back to the scheduler", extra={**told, "error": str(error)}
        )
        return False
    except KubeError as error:
        logger.warning(
            "claim could not be given back to the scheduler and stays on its node",
            extra={**told, "error": str(error)},
        )
        return False
    logger.info("claim given back to the scheduler", extra=told)
    return True
