"""Memory is given back once the first lists are there, and where it cannot be nothing breaks."""

from __future__ import annotations

import ctypes

import pytest

from csisidecar.runtime.memory import release_free_memory


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class OtherLibrary:
        pass

    monkeypatch.setattr(ctypes, "CDLL", lambda _: OtherLibrary())
    assert release_free_memory() is False


def test_free_memory_goes_back_to_the_system() -> None:
    def resident_kib() -> int:
        with open("/proc/self/status") as status:  # noqa: PTH123 - a file of the kernel
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library has no malloc_trim")
    blocks = [bytearray(60_000) for _ in range(1000)]
    keep = blocks[::50]
    full = resident_kib()
    blocks.clear()
    release_free_memory()
    assert resident_kib() < full - 30_000
    assert len(keep) == 20
