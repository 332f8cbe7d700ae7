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
        f"The table shows the test accuracy in percent on {setting['data']}, as mean and standard deviation "
        f"over {seeds} seeds. Training: {setting['epochs']} epochs on the first "
        f"{setting['train_images']:,} training images, Adam, batch {setting['batch']}, time parameters at "
        f"{setting['time_parameters']}. Test: all {setting['test_images']:,} test images. Such a short "
        "training shows how fast each network learns, not its final accuracy.",
    ]
    (ROOT / "docs" / "migration_results.inc").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
