"""`python -m tests.parity MODE`: every behavior of the catalogue, its test run, and where the Go sidecar differs.

With CSI_SIDECARS (a folder with the Go sidecars) and KUBEBUILDER_ASSETS (one with etcd and kube-apiserver) the rows
that can be played are played against the Go sidecar too. Ends with 1 when a row has no passing test, a marked test or
a play no row, or a play differs where the page says that it is the same.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parity import catalogue
from tests.parity.real import play_all, plugin_of, why_not_real

if TYPE_CHECKING:
    from collections.abc import Sequence

DURATION = (
    "Each play starts processes: on two cores those of attacher and provisioner take about 5 minutes each, those of"
    " topology, which has its storage capacity and its nodes too, about 10. --play shortens that."
)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__, epilog=DURATION)
    parser.add_argument("mode", choices=sorted(catalogue.PREFIXES))
    parser.add_argument("--no-tests", action="store_true", help="print the rows and play them, but run no test")
    parser.add_argument("--play", default="", metavar="TEXT", help="only plays with TEXT in their name")
    options = parser.parse_args()
    rows = catalogue.rows(options.mode)
    for row in rows:
        print(f"{row.id}  {row.behavior}\n    {row.verdict}\n    {row.test}")
    faults = catalogue.faults(options.mode)
    passed = set() if options.no_tests else run(catalogue.tests_of(rows))
    if not options.no_tests:
        faults += [f"{row.id}: {row.test} did not pass" for row in rows if row.test not in passed]
    faults += asyncio.run(play(options.mode, rows, options.play))
    for fault in faults:
        print(f"FAULT {fault}")
    tested, differing = sum(row.test in passed for row in rows), sum(row.differs for row in rows)
    print(f"{len(rows)} behaviours, {tested} tested, {differing} differ")
    return 1 if faults else 0


def run(tests: list[str]) -> set[str]:
    """Those of `tests` that passed with every one of their cases, and single cases that passed."""
    with tempfile.TemporaryDirectory(prefix="parity") as folder:
        report = Path(folder) / "report.xml"
        words = [sys.executable, "-m", "pytest", "-q", "--no-header", f"--junitxml={report}"]
        done = subprocess.run(
            [*words, *(f"tests/{test}" for test in tests)],
            cwd=catalogue.ROOT,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode not in (0, 1) or not report.exists():
            print(done.stdout[-3000:])
            return set()
        good: dict[str, bool] = {}
        for case in ET.parse(report).getroot().iter("testcase"):
            file = case.get("classname", "").removeprefix("tests.").replace(".", "/")
            name = f"{file}.py::{case.get('name', '')}"
            is_good = not any(case.find(tag) is not None for tag in ("failure", "error", "skipped"))
            for each in {name, name.partition("[")[0]}:
                good[each] = good.get(each, True) and is_good
        return {name for name, is_good in good.items() if is_good}


async def play(mode: str, rows: Sequence[catalogue.Row], only: str) -> list[str]:
    """Play against the Go sidecar; prints what differs, and gives what the page does not know of."""
    reason, go = why_not_real(mode), f"the Go {plugin_of(mode)}"
    if reason:
        print(f"not played against {go}: {reason}")
        return []
    known, differing = {row.id for row in rows}, {row.id for row in rows if row.differs}
    faults, played, found, seen = [], 0, 0, set[str]()
    async for name, ids, lines in play_all(mode, only):
        played += 1
        seen.update(ids)
        names = ", ".join(ids)
        if not known.issuperset(ids):
            faults.append(f"{names}: {name} plays a row that the page has not")
        if not lines:
            continue
        found += 1
        print(f"differs from {go}: {names} ({name})")
        for line in lines:
            print(f"    {line}")
        if not differing.intersection(ids):
            faults.append(f"{names}: {name} differs from {go}, and the page says it is the same")
    print(f"{played} plays of {len(seen & known)} rows against {go}, {found} differ")
    return faults


if __name__ == "__main__":
    sys.exit(main())
