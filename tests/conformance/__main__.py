"""python -m tests.conformance: the scoreboard, or with --only, --set and --stage a part of it."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.conformance import baseline
from tests.conformance.cases import SETS, Case, load_cases
from tests.conformance.stages import ABSENT, FAIL, REFUSED, STAGES
from tests.conformance.workers import Outcome, run_cases


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--stage", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--set", nargs="+", choices=SETS, default=list(SETS), help="the sets of the suite")
    parser.add_argument("--only", default="", help="a regular expression on the names of cases")
    parser.add_argument("--plain", action="store_true", help="cases of plain types and the default domain")
    parser.add_argument("--verbose", action="store_true", help="print passes and refusals too")
    parser.add_argument("--update", action="store_true", help="write the baseline; needs a full run")
    parser.add_argument("--output", type=Path, help="write the outcomes of all cases to this file, and compare nothing")
    parser.add_argument("--jobs", type=int, default=0, help="processes, by default one per processor")
    return parser.parse_args()


def chosen(args: argparse.Namespace) -> list[Case]:
    """The cases that the arguments ask for."""
    asked = [c for c in load_cases() if c.suite in args.set and re.search(args.only, c.key)]
    return [c for c in asked if c.is_plain or not args.plain]


def show(outcome: Outcome, verbose: bool) -> None:
    """A line for each stage, or for each FAIL."""
    frozen = f"  (frozen: {', '.join(outcome.frozen)})" if outcome.frozen else ""
    scope = "" if outcome.case.is_plain else " (not plain)"
    for stage, verdict in outcome.verdicts.items():
        if verbose or verdict.status == FAIL:
            print(f"{verdict.status:9}{stage:9}{outcome.case.key}{scope}  {verdict.reason}{frozen}", flush=True)


def summary(outcomes: Sequence[Outcome], stages: Sequence[str], seconds: float) -> None:
    """Counts, and reasons with how often they are given."""
    plain = [o for o in outcomes if o.case.is_plain and o.case.suite == "node"]
    print(f"{len(outcomes)} cases, {len(plain)} of them plain node cases, in {seconds:.0f} s")
    reasons: Counter[tuple[str, str]] = Counter()
    for stage in stages:
        counts = [dict(Counter(o.verdicts[stage].status for o in part)) for part in (plain, outcomes)]
        print(f"{stage:9}plain {counts[0]}  all {counts[1]}")
        verdicts = [o.verdicts[stage] for o in plain]
        reasons.update((stage, v.reason) for v in verdicts if v.status in (REFUSED, ABSENT))
    for (stage, reason), count in reasons.most_common():
        print(f"{count:5}  {stage:9}{reason}")


def main() -> int:
    """Run, print, compare with the baseline; 1 for regressions and FAILs."""
    args = arguments()
    started = time.monotonic()
    outcomes = run_cases(chosen(args), args.stage, args.jobs, lambda outcome: show(outcome, args.verbose))
    summary(outcomes, args.stage, time.monotonic() - started)
    now = baseline.measured(outcomes)
    if args.update or args.output:
        if len(outcomes) < len(load_cases()) or (args.update and len(args.stage) < len(STAGES)):
            sys.exit("a baseline needs all cases and stages")
        baseline.write(now, args.output or baseline.PATH)
        return 0
    found = baseline.changes(baseline.read(), now)
    for kind, lines in found._asdict().items():
        print(f"{kind}: {len(lines)}", *(lines if args.verbose or kind == "regressions" else lines[:20]), sep="\n  ")
    return 1 if found.regressions or any(v.status == FAIL for o in outcomes for v in o.verdicts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
