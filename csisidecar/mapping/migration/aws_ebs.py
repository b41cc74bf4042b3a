"""AWS EBS: volume ids as bare ids or `aws://` addresses, regions from zone names.

Source: csi-translation-lib `plugins/aws_ebs.go`; Go `net/url` for what counts as an address.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from csisidecar.errors import UnusableObjectError
from csisidecar.mapping.migration.contract import InTreeSource, InTreeVolume, Migration, given
from csisidecar.mapping.migration.parameters import FS_TYPE, ClassRules
from csisidecar.mapping.migration.texts import quote, read_partition
from csisidecar.mapping.migration.topology import Zones, one_region

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DRIVER = "ebs.csi.aws.com"
ZONE_KEY = "topology.ebs.csi.aws.com/zone"

_VOLUME_ID = re.compile(r"vol-[^/]*")


def _to_csi(volume: InTreeVolume) -> dict[str, Any]:
    source = volume.source
    try:
        handle = read_volume_id(source.get("volumeID") or "")
    except UnusableObjectError as error:
        raise UnusableObjectError(f"failed to translate Kubernetes ID to EBS Volume ID {error}") from error
    return {
        "driver": DRIVER,
        "volumeHandle": handle,
        "volumeAttributes": {"partition": str(source.get("partition") or 0)},
    } | given(readOnly=source.get("readOnly"), fsType=source.get("fsType"))


def _to_in_tree(csi: Mapping[str, Any]) -> InTreeSource:
    attributes = csi.get("volumeAttributes") or {}
    partition = 0
    if "partition" in attributes:
        partition = read_partition(attributes["partition"], refusal="failed to convert partition")
    optional = given(fsType=csi.get("fsType"), partition=partition, readOnly=csi.get("readOnly"))
    return InTreeSource(fields={"volumeID": csi.get("volumeHandle") or ""} | optional)


def read_volume_id(text: str) -> str:
    """The id that AWS knows, from a bare id or from ``aws://ZONE/ID``.

    Raises:
        UnusableObjectError: an ``aws://`` text that is no address, or has no volume id for a path.
    """
    if not text.startswith("aws://"):
        return text
    try:
        path = _read_path(text)
    except UnusableObjectError as error:
        raise UnusableObjectError(f"Invalid disk name ({text}): {error}") from error
    volume_id = path.strip("/")
    if not _VOLUME_ID.fullmatch(volume_id):
        raise UnusableObjectError(f"Invalid format for AWS volume ({text})")
    return volume_id


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_BAD_IN_HOST = re.compile(
    r"%(?!25|[89A-Fa-f][0-9A-Fa-f])[0-9A-Fa-f]{2}|%(?![0-9A-Fa-f]{2}).{0,2}|[ \\^`{|}]", re.DOTALL
)
_USER = re.compile(r"[A-Za-z0-9._:~!$&'()*+,;=%@-]*")
_PORT = re.compile(r"(:[0-9]*)?")


def _read_path(address: str) -> str:
    """The path of ``aws://ZONE/PATH``, unescaped; a zone in square brackets is always refused."""
    body, _, fragment = address.partition("#")

    def refuse(reason: str, of: str = body) -> UnusableObjectError:
        return UnusableObjectError(f"parse {quote(of)}: {reason}")

    if _CONTROL.search(body):
        raise refuse("net/url: invalid control character in URL")
    authority, slash, path = body.removeprefix("aws://").partition("?")[0].partition("/")
    user, _, host = authority.rpartition("@")
    if "[" in host:
        raise refuse("invalid IP-literal")
    port = ":" + host.rpartition(":")[2] if ":" in host else ""
    if not _PORT.fullmatch(port):
        raise refuse(f"invalid port {quote(port)} after host")
    bad = _BAD_IN_HOST.search(host)
    if bad is not None:
        kind = "invalid URL escape {}" if bad[0].startswith("%") else "invalid character {} in host name"
        raise refuse(kind.format(quote(bad[0])))
    if not _USER.fullmatch(user):
        raise refuse("net/url: invalid userinfo")
    for part, of in ((user, body), (path, body), (fragment, address)):
        bad = _BAD_ESCAPE.search(part)
        if bad is not None:
            raise refuse(f"invalid URL escape {quote(bad[0])}", of)
    return slash + unquote(path, errors="surrogateescape")


def _region_of(zone: str) -> str:
    """us-west-2a and us-gov-east-1a lose the letter; local and wavelength zones keep their first three parts."""
    parts = zone.split("-")
    if len(parts) in (3, 4) and len(parts[-1]) == 2:
        return zone[:-1]
    if len(parts) in (5, 7):
        return "-".join(parts[:3])
    raise UnusableObjectError(f"Unexpected zone format: {zone} is not a valid AWS zone")


def read_region(zones: Sequence[str]) -> str:
    """The region of `zones`.

    Raises:
        UnusableObjectError: not AWS zones, none, or of several regions.
    """
    return one_region(zones, _region_of)


AWS_EBS = Migration(
    driver=DRIVER,
    in_tree_name="kubernetes.io/aws-ebs",
    source_field="awsElasticBlockStore",
    to_csi=_to_csi,
    to_in_tree=_to_in_tree,
    class_rules=ClassRules(
        renamed=FS_TYPE,
        # In-tree, too little IOPS for the size was raised to the least that AWS allows; the driver asks to be told.
        added_with={"iopspergb": {"allowautoiopspergbincrease": "true"}},
        zone_key=ZONE_KEY,
        reads_zones=True,
    ),
    topology=Zones(ZONE_KEY, read_region),
)
