"""What /proc says about this process, beyond what prometheus_client reads. Source: prometheus/procfs."""

from __future__ import annotations

from pathlib import Path

_PROC = Path("/proc/self")
_UNLIMITED = float(2**64 - 1)


def read_address_space_limit(proc: Path = _PROC) -> float | None:
    """Soft limit of the address space in bytes, 2^64-1 for none; None where /proc does not say."""
    for line in _lines(proc / "limits"):
        if line.startswith("Max address space"):
            soft = line.split()[3]
            return float(soft) if soft.isdigit() else _UNLIMITED
    return None


def read_network_octets(proc: Path = _PROC) -> tuple[float, float] | None:
    """Bytes received and sent in this network namespace; None where /proc does not say."""
    rows = [line.split() for line in _lines(proc / "net" / "netstat") if line.startswith("IpExt:")]
    if len(rows) != 2:
        return None
    values = dict(zip(*rows, strict=False))
    try:
        return float(values["InOctets"]), float(values["OutOctets"])
    except (KeyError, ValueError):
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
