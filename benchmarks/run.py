"""Run every benchmark's missing cells, one benchmark after the other: python benchmarks/run.py [--data FOLDER] [NAME…].

Each benchmark is a script of its own that keeps one JSON file per cell under results/ and computes only what is
missing, so a stopped run goes on where it was. `make docs` turns the files into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NEEDS_DATA = (
    "closure", "coresets", "detection", "dynamic", "influence", "memorization", "poison_detectors", "pruning",
    "subset_models", "unlearnable",
)  # fmt: skip


def main() -> None:
    """Run the named benchmarks, or all of them."""
    known = sorted(path.stem for path in HERE.glob("*.py") if path.stem != "run")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}; all by default")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("TRACESIFT_DATA"), help="folder of the datasets"
    )
    given = parser.parse_args()
    for name in given.names or known:
        if name in NEEDS_DATA and given.data is None:
            print(
                f"{name}: skipped; name the datasets' folder with --data or TRACESIFT_DATA", file=sys.stderr
            )
            continue
        data = ["--data", str(given.data)] if name in NEEDS_DATA else []
        subprocess.run([sys.executable, HERE / f"{name}.py", *data], check=True)


if __name__ == "__main__":
    main()
