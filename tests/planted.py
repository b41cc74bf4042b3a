"""Plants one-line faults, one at a time, each in a copy of the tree, and sees a named test catch it.

    python -m tests.planted [NUMBER ...]

Ends with ``20/20 caught``; exit 1 when a fault lives through its test, or when a line to change is not there any
more. The last column says which behavior would be lost.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARALLEL = 2


@dataclass(frozen=True)
class Fault:
    """One line, as it is and as it must not be."""

    file: str
    old: str
    new: str
    test: str


FAULTS = (
    # runtime
    Fault(
        "csisidecar/runtime/watcher.py",
        'version, needs_paged_list = "", True',
        "needs_paged_list = True",
        "tests/runtime/test_watcher.py::test_watch_that_falls_silent_is_replaced_by_a_list_within_a_minute",
    ),
    Fault(
        "csisidecar/runtime/watcher.py",
        "if not seen and self._clock.monotonic() - began < SETTLED_S:",
        "if False:",
        "tests/runtime/test_watcher.py::test_server_that_ends_every_watch_at_once_is_not_asked_in_a_loop",
    ),
    Fault(
        "csisidecar/runtime/store.py",
        "gone = [key for key in self.store._objects if key not in listed]  # noqa: SLF001",
        "gone: list[ObjectKey] = []",
        "tests/runtime/test_watcher.py::test_deletion_missed_while_listing_again_is_told",
    ),
    Fault(
        "csisidecar/runtime/store.py",
        "if 0 < revision(obj.resource_version) < revision(old.resource_version):",
        "if False:",
        "tests/runtime/test_watcher.py::test_older_version_of_an_object_never_replaces_a_newer_one",
    ),
    Fault(
        "csisidecar/runtime/queue.py",
        "if key in self._running:",
        "if False:",
        "tests/runtime/test_queue.py::test_key_added_while_worked_on_comes_back_only_when_done",
    ),
    Fault(
        "csisidecar/runtime/queue.py",
        "if self._due.get(key, due + 1) <= due:",
        "if False:",
        "tests/runtime/test_queue.py::test_delayed_key_keeps_its_earliest_time",
    ),
    Fault(
        "csisidecar/runtime/controller.py",
        "if held is None:\n            return False\n        remaining",
        "if True:\n            return False\n        remaining",
        "tests/runtime/test_controller.py::test_key_waits_until_the_store_has_seen_its_own_write",
    ),
    Fault(
        "csisidecar/runtime/controller.py",
        "except (RetryAfter, ThrottledError) as error:",
        "except RetryAfter as error:",
        "tests/runtime/test_controller.py::test_put_off_key_waits_as_told_and_counts_no_failure",
    ),
    Fault(
        "csisidecar/runtime/controller.py",
        "self._failures.pop(key, None)\n        queue.cancel_delayed(key)\n        if result",
        "queue.cancel_delayed(key)\n        if result",
        "tests/runtime/test_controller.py::test_failures_back_off_and_success_forgets_them",
    ),
    Fault(
        "csisidecar/runtime/recorder.py",
        "if live.writes >= EAGER_WRITES:",
        "if False:",
        "tests/runtime/test_recorder.py::test_flood_is_written_at_most_once_a_minute_after_the_fifth_write",
    ),
    # csi
    Fault(
        "csisidecar/csi/redact.py",
        'name.rstrip("_"): STRIPPED if name in secret else _value(getattr(message, name))',
        'name.rstrip("_"): _value(getattr(message, name))',
        "tests/csi/test_redact.py::test_every_secret_field_is_blanked_whole",
    ),
    Fault(
        "csisidecar/csi/client.py",
        "raise CSIError(name, StatusCode.UNAVAILABLE, str(error)) from error",
        "raise CSIError(name, StatusCode.INTERNAL, str(error)) from error",
        "tests/csi/test_client.py::test_connection_dropped_by_the_driver_is_unavailable",
    ),
    Fault(
        "csisidecar/csi/connection.py",
        'self._client.refusal = f"the connection to driver {info.name} at {self._channel.endpoint} is lost"',
        "pass",
        "tests/csi/test_connection.py::test_whoever_answers_on_the_socket_gets_no_volume_call_before_it_said_who_it_is",
    ),
    Fault(
        "csisidecar/csi/connection.py",
        "if info.name != before.name:",
        "if False:",
        "tests/csi/test_connection.py::test_other_name_ends_the_block_naming_both",
    ),
    # plans
    Fault(
        "csisidecar/plugins/attacher/status_patch.py",
        "if clear_error or base.attach_error is not None:",
        "if False:",
        "tests/plugins/attacher/test_attach.py::test_stale_error_of_an_earlier_process_is_cleared_by_the_success",
    ),
    Fault(
        "csisidecar/plugins/attacher/status_patch.py",
        "message, time = clip(text, MESSAGE_LIMIT_BYTES), rfc3339(at)",
        "message, time = text, rfc3339(at)",
        "tests/plugins/attacher/test_attach.py::test_long_driver_message_is_cut_at_a_character_so_that_the_api_takes_it",
    ),
    Fault(
        "csisidecar/plugins/provisioner/outcome.py",
        "if error.code in _MAY_BE_RUNNING:",
        "if False:",
        "tests/plugins/provisioner/test_outcomes.py::test_claim_deleted_during_create_is_finished",
    ),
    Fault(
        "csisidecar/plugins/provisioner/persistent_volume.py",
        '"finalizers": [names.FINALIZER],',
        '"finalizers": [],',
        "tests/plugins/provisioner/test_provision.py::test_claim_gets_a_volume_and_the_pv_says_everything",
    ),
    Fault(
        "csisidecar/mapping/capability.py",
        "return VolumeCapability(block=VolumeCapabilityBlockVolume(), access_mode=access_mode)",
        "return VolumeCapability(access_mode=access_mode)",
        "tests/mapping/test_capability.py",
    ),
    Fault(
        "csisidecar/kube/quantity.py",
        'return _bounded(ceil(-amount if sign == "-" else amount))',
        'return _bounded(int(-amount if sign == "-" else amount))',
        "tests/kube/test_quantity.py::test_amount_is_exact_and_rounded_up_to_bytes",
    ),
)


def plant(number: int, fault: Fault) -> tuple[bool, str]:
    """Whether the fault was caught, and the line to print."""
    what = f"{number:2}  {fault.file}: {fault.old.splitlines()[0].strip()[:70]}"
    with tempfile.TemporaryDirectory(prefix="planted-") as place:
        copy = Path(place)
        for folder in ("csisidecar", "tests", "protos"):
            shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        target = copy / fault.file
        source = target.read_text()
        if source.count(fault.old) != 1:
            return False, f"LOST    {what}\n        the line is there {source.count(fault.old)} times; mend this table"
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", fault.test]
        sound = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=180, check=False)
        if sound.returncode != 0:
            return False, f"BROKEN  {what}\n        {fault.test} fails without the fault"
        target.write_text(source.replace(fault.old, fault.new))
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=180, check=False)
        caught = done.returncode == 1
    return caught, f"{'caught ' if caught else 'MISSED '} {what}\n        by {fault.test.rpartition('::')[2]}"


def main() -> int:
    """Plant all, or those whose numbers were given."""
    wanted = [int(word) for word in sys.argv[1:]] or range(1, len(FAULTS) + 1)
    caught = 0
    with ThreadPoolExecutor(PARALLEL) as pool:
        for is_caught, line in pool.map(lambda number: plant(number, FAULTS[number - 1]), wanted):
            print(line, flush=True)
            caught += is_caught
    print(f"{caught}/{len(wanted)} caught")
    return 0 if caught == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
