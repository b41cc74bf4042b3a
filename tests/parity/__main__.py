"""`python -m tests.parity MODE`: every behavior of the catalogue, its test run, and where the Go sidecar differs.

With CSI_SIDECARS (a folder with the Go sidecars) and KUBEBUILDER_ASSETS (one with etcd and kube-apiserver) the rows
that can be played are played against the Go sidecar too. Ends with 1 when a row has no passing test, a marked test
no row, or a play differs where the page says that it is the same.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from tests.parity import catalogue
from tests.parity.real import play_all, why_not_real


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
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
    differing = {row.id for row in rows if row.differs}
    faults += asyncio.run(play(options.mode, differing, options.play))
    for fault in faults:
        print(f"FAULT {fault}")
    tested = sum(row.test in passed for row in rows)
    print(f"{len(rows)} behaviours, {tested} tested, {len(differing)} differ")
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


async def play(mode: str, differing: set[str], only: str) -> list[str]:
    """Play against the Go sidecar; prints what differs, and gives the differences that the page does not know."""
    reason = why_not_real(mode)
    if reason:
        print(f"not played against the Go {mode}: {reason}")
        return []
    faults, played, found = [], 0, 0
    async for name, ids, lines in play_all(mode, only):
        played += 1
        if not lines:
            continue
        found += 1
        rows = ", ".join(ids)
        print(f"differs from the Go {mode}: {rows} ({name})")
        for line in lines:
            print(f"    {line}")
        if not differing.intersection(ids):
            faults.append(f"{rows}: {name} differs from the Go {mode}, and the page says it is the same")
    print(f"{played} plays against the Go {mode}, {found} differ")
    return faults


if __name__ == "__main__":
    sys.exit(main())
