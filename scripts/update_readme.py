"""Insert the results of a study into the README and copy its report to docs/results.

python scripts/update_readme.py [comparison]
"""

import shutil
import sys
from pathlib import Path

from temper.report.tables.audit_badges import LEGEND

HOME = Path(__file__).resolve().parents[1]
START, END = "<!-- results:start -->", "<!-- results:end -->"


def main(study: str = "comparison") -> None:
    """Update README.md and docs/results/<study> from results/<study>."""
    results, docs = HOME / "results" / study, HOME / "docs" / "results" / study
    docs.mkdir(parents=True, exist_ok=True)
    for name in ("table.md", "tradeoff.png", "curves.png"):
        shutil.copyfile(results / name, docs / name)
    title, about, _, table, *_ = (results / "table.md").read_text().split("\n\n")
    block = [
        f"Results of `temper-train experiment={title.removeprefix('# ')}`:",
        table,
        f"![Clean vs. robust accuracy](docs/results/{study}/tradeoff.png)",
        f"{LEGEND} {about.replace(chr(10), ' ')} [All tables](docs/results/{study}/table.md): gaps, calibration, sensitivity, "
        "weights, cost, audit.",
    ]
    readme = HOME / "README.md"
    before, rest = readme.read_text().split(START)
    after = rest.split(END)[1]
    readme.write_text("\n\n".join([before + START, *block, END]) + after)


if __name__ == "__main__":
    main(*sys.argv[1:])
