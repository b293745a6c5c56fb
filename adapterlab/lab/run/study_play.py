"""All contests of a study, played together: those at one cell of its sweep extend their searches together.

Each contest asks for trials by itself. Two decisions depend on others: whether its search is extended, on the regret of the
sampled contestants on all tasks with the same unit of loss; and in a race, whether it gets another seed. They follow from
the outcomes of their trials, not from the order in which these arrive, so a ledger that is replayed gives the decisions that
the run made.

>>> StudyPlay([]).start()  # a study without contests needs no trials
[]
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence

from adapterlab.lab.run.contest import Contest, Outcomes, Play, play
from adapterlab.lab.run.racing import Race
from adapterlab.lab.run.regret import regret_of
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.spec import Outcome, Trial

Request = tuple[int, list[Trial]]
"""Index of a contest, and the trials that it needs next; at least one."""


class SearchGroup:
    """Contests at one cell, on tasks with one unit of loss; their searches are extended together.

    Args:
        contests: The contests.
    """

    def __init__(self, contests: Sequence[Contest]) -> None:
        self.contests = contests
        self._sampled = [contest for contest in contests if contest.sampled]
        self._decisions: list[bool] = []

    def extends(self, extensions: int) -> bool | None:
        """Return True if all searches are extended once more: if the regret of any sampled contestant is too large.

        Args:
            extensions: Number of extensions so far.

        Returns:
            The decision; None until every sampled contest has measured its regret after that number of extensions.
        """
        if extensions == len(self._decisions) and all(
            contest.finished or (contest.waiting and contest.extensions == extensions) for contest in self._sampled
        ):
            self._decisions.append(self._too_large())
        return self._decisions[extensions] if extensions < len(self._decisions) else None

    def _too_large(self) -> bool:
        by_name: dict[str, list[Contest]] = defaultdict(list)
        for contest in self._sampled:
            by_name[contest.contestant].append(contest)
        regrets = [regret for contests in by_name.values() if (regret := regret_of(contests)) is not None]
        return any(regret.mean > self.contests[0].study.report.smallest for regret in regrets)


class StudyPlay:
    """The contests of a study under way.

    Args:
        contests: Contests that were not played; they are filled in.
    """

    def __init__(self, contests: Iterable[Contest]) -> None:
        self.contests = list(contests)
        members: dict[tuple[Cell, str], list[int]] = defaultdict(list)
        for i, contest in enumerate(self.contests):
            members[contest.resolved.cell, contest.resolved.unit(contest.task)].append(i)
        self._members: dict[int, list[int]] = {}
        self._plays: dict[int, Play] = {}
        for group in members.values():
            together = [self.contests[i] for i in group]
            extends, goes_on = SearchGroup(together).extends, Race(together).goes_on
            for i in group:
                self._members[i] = group
                self._plays[i] = play(self.contests[i], extends, goes_on)

    def start(self) -> list[Request]:
        """Return the first trials of every contest."""
        return self._advance([(i, None) for i in self._plays])

    def send(self, contest: int, outcomes: Outcomes) -> list[Request]:
        """Give a contest the outcomes of all trials that it asked for last.

        Args:
            contest: Index of the contest.
            outcomes: By trial, the outcome.

        Returns:
            The trials needed next, by this contest and by those that waited for it.
        """
        return self._advance([(contest, outcomes)])

    def _advance(self, events: Sequence[tuple[int, Outcomes | None]]) -> list[Request]:
        queue, requests = deque(events), list[Request]()
        while queue:
            i, outcomes = queue.popleft()
            was_waiting = self.contests[i].waiting
            try:
                trials = next(self._plays[i]) if outcomes is None else self._plays[i].send(outcomes)
            except StopIteration:
                trials = []
            if trials:
                requests.append((i, trials))
            if not was_waiting:
                # It may be the last to measure its regret or to end a round of the race, which settles what others wait for.
                queue.extend((j, {}) for j in self._members[i] if self.contests[j].waiting)
        return requests


def play_study(contests: Iterable[Contest], run: Callable[[Contest, Trial], Outcome]) -> list[Contest]:
    """Play the contests of a study to their end in this process.

    Args:
        contests: Contests that were not played; they are filled in.
        run: Returns the outcome of a trial of a contest.

    Returns:
        The contests, finished.
    """
    playing = StudyPlay(contests)
    requests = deque(playing.start())
    while requests:
        i, trials = requests.popleft()
        requests.extend(playing.send(i, {trial: run(playing.contests[i], trial) for trial in trials}))
    return playing.contests
