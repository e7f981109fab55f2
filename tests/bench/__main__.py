"""``scripts/bench``: measure, print, judge.

Exit status 1 on a lost tick or, with ``--quick``, on a ratio outside its margin.
"""

import argparse
import sys
import time

from rich.console import Console

from tests.bench import guard, machine, report
from tests.bench.figures import Figure, Target
from tests.bench.plan import Plan
from tests.bench.programs import TickLost
from tests.bench.sections import SECTIONS

QUICK_ROUNDS = 3

console = Console(stderr=True)


def _say(text: str) -> None:
    console.print(f"[dim]{time.strftime('%H:%M:%S')}[/] {text}", highlight=False)


def _quick(*, as_json: bool) -> int:
    plan = Plan(QUICK_ROUNDS, say=_say)
    measured = guard.measure(plan)
    figures = [
        Figure("Guard", str(margin), "", tuple(ratios), Target(most=margin.most)) for margin, ratios in measured.items()
    ]
    report.show(figures, as_json=as_json)
    problems = guard.outside(measured, lambda: guard.measure(plan))
    for problem in problems:
        console.print(f"bench: {problem}", style="red")
    return 1 if problems else 0


def _whole(names: list[str], plan: Plan, *, as_json: bool) -> int:
    figures: list[Figure] = []
    lost: list[TickLost] = []
    for name in names:
        try:
            figures += SECTIONS[name](plan)
        except TickLost as error:  # the others still count
            lost.append(error)
            console.print(f"bench: {name}: {error}", style="red")
    report.show(figures, as_json=as_json)
    return 1 if lost else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all without any")
    parser.add_argument(
        "--quick", action="store_true", help="the guard alone: ratios against their margins, below 60 s"
    )
    parser.add_argument("--json", action="store_true", help="the figures as one JSON document")
    parser.add_argument("--rounds", type=int, default=3, help="runs per figure (3)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run at a pace (5)")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if options.rounds < 1 or options.seconds <= 0:
        parser.error("--rounds begins at 1, --seconds above 0")
    if not options.json:
        machine.show()
    if options.quick:
        return _quick(as_json=options.json)
    plan = Plan(options.rounds, options.seconds, _say)
    return _whole(options.sections or list(SECTIONS), plan, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
