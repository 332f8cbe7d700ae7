"""Write the results of ``migration.py`` as the table that docs/migration.md includes.

Usage: ``python benchmarks/migration_table.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    results = json.loads((ROOT / "benchmarks" / "results" / "migration.json").read_text())
    setting = results["setting"]
    lines = ["| network | steps | snnTorch | adapted |", "|---|---|---|---|"]
    for name, kinds in results["summary"].items():
        cells = [f"{kind['mean']:.2f} ± {kind['stdev']:.2f}" for kind in kinds.values()]
        lines.append(f"| {name} | {setting['steps'][name]} | {cells[0]} | {cells[1]} |")
    seeds = len({row["seed"] for row in results["rows"]})
    lines += [
        "",
        f"Test accuracy in percent on {setting['data']}, mean and standard deviation over {seeds} seeds: "
        f"{setting['epochs']} epochs on the first {setting['train_images']:,} training images, all "
        f"{setting['test_images']:,} test images, Adam, batch {setting['batch']}, time parameters at "
        f"{setting['time_parameters']}. So short a training compares how fast the two learn, not how far "
        "they get.",
    ]
    (ROOT / "docs" / "migration_results.inc").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
