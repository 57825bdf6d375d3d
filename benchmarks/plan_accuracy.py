"""How far off the plan is: python -m benchmarks.plan_accuracy CONSTANTS.json [--config FILE] [--set path=value]

Reads a finished state folder (AUTOMIXER_STATE) and prints, per stage, what `automixer plan` would have said with these
constants beside the seconds that the lake's markers recorded. Seconds in the markers are the wall's: on a machine that
did other work at the time they are longer than the plan, which reckons with a machine left alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from automixer_assets.commands import open_automixer, open_instance
from automixer_assets.plan_record import StageRecord, compare_with_record
from automixer_assets.plan_sizes import Given
from automixer_assets.planning.constants import load_constants


def main() -> None:
    """Print a Markdown table and how many stages lie within the factor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("constants", type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--set", action="append", dest="overrides")
    parser.add_argument("--vocabulary", type=int)
    options = parser.parse_args()
    automixer, constants = open_automixer(options.config, options.overrides), load_constants(options.constants)
    with open_instance() as instance:
        rows = compare_with_record(instance, automixer, constants, Given(vocabulary=options.vocabulary))
    print("| stage | artefacts | predicted, s | recorded, s | predicted / recorded |")
    print("|---|---:|---:|---:|---:|")
    for row in rows:
        print(_line(row))
    within = [row for row in rows if row.is_predicted]
    share = sum(row.recorded for row in within) / max(sum(row.recorded for row in rows), 1e-9)
    print(f"\n{len(within)} of {len(rows)} stages within a factor of 1.5, {share:.0%} of the recorded time")


def _line(row: StageRecord) -> str:
    ratio = "–" if row.ratio is None else f"{row.ratio:.2f}"
    return f"| {row.stage} | {row.artifacts} | {row.predicted:.2f} | {row.recorded:.2f} | {ratio} |"


if __name__ == "__main__":
    main()
