"""python -m benchmarks.influence_quality --world micro --seeds 1 2 3 4 5 --out FOLDER"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from automixer_assets.errors import AutomixerError
from benchmarks import influence_quality
from benchmarks.influence_quality.report import report
from benchmarks.influence_quality.settings import quick, study_settings
from benchmarks.influence_quality.study import run_study


def main(arguments: list[str] | None = None) -> int:
    """Run the studies that are not complete, then print the tables of those that are."""
    options = _parser().parse_args(arguments)
    wanted = [study_settings(options.world, seed, tied=options.tied) for seed in options.seeds]
    if options.quick:
        wanted = [quick(settings) for settings in wanted]
    try:
        for settings in [] if options.report else wanted:
            run_study(settings, options.out, variants=options.variants)
        print(report(wanted, options.out))
    except AutomixerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.influence_quality",
        description=influence_quality.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--world", choices=("micro", "real"), default="micro")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="0 was used for development")
    parser.add_argument("--out", type=Path, required=True, help="folder of the studies; run again to go on")
    parser.add_argument("--report", action="store_true", help="only print the tables of what is complete")
    parser.add_argument("--quick", action="store_true", help="in miniature, under a minute; figures mean nothing")
    parser.add_argument("--tied", action="store_true", help="embedding and output matrix are one")
    parser.add_argument("--variants", action="store_true", help="also other dampings and layer sets")
    return parser


if __name__ == "__main__":
    sys.exit(main())
