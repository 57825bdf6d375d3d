"""Which tasks are alike (paper, section 3: with many tasks, cluster them), by trajectory or by gradient.

Agglomerative, average linkage, tasks in name order: the same table gives the same clusters everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from automixer_assets.benchmark.trajectories import Trajectory

if TYPE_CHECKING:
    import numpy as np

DECIMALS = 9
"""Distances and mean scores are compared at this precision, so that the last bits of a sum decide no tie."""

Cosines = Mapping[tuple[str, str], float]
"""(task, task) -> cosine of the two tasks' mean gradients."""


def clusterings(trajectories: Sequence[Trajectory], cosines: Cosines | None) -> Iterator[list[list[Trajectory]]]:
    """Every clustering from each task by itself to all together, two clusters merged at a time.

    Tasks are as far apart as 1 - correlation of their trajectories, or 1 - `cosines` where those are given. A flat
    trajectory correlates with none.
    """
    yield [[trajectory] for trajectory in trajectories]
    if len(trajectories) < 2:
        return
    from scipy.cluster.hierarchy import cut_tree, linkage
    from scipy.spatial.distance import squareform

    distance = _gradient_distance(trajectories, cosines) if cosines is not None else _trajectory_distance(trajectories)
    tree = linkage(squareform(distance, checks=False), method="average")
    for count in range(len(trajectories) - 1, 0, -1):
        labels = cut_tree(tree, n_clusters=count)[:, 0].tolist()
        members = zip(labels, trajectories, strict=True)
        clusters: dict[int, list[Trajectory]] = {}
        for label, trajectory in members:
            clusters.setdefault(label, []).append(trajectory)
        yield list(clusters.values())


def best_step(cluster: Sequence[Trajectory]) -> int:
    """A single task's best step; for several the step of the highest mean standard score, ties to the earliest."""
    import numpy as np

    if len(cluster) == 1:
        return cluster[0].best()["step"]
    mean = np.mean([_standardised(trajectory) for trajectory in cluster], axis=0).round(DECIMALS)  # [steps]
    return cluster[0].rows[int(mean.argmax())]["step"]


def _trajectory_distance(trajectories: Sequence[Trajectory]) -> np.ndarray:
    """1 - Pearson correlation [m, m]."""
    import numpy as np

    scores = np.array([_standardised(trajectory) for trajectory in trajectories])  # [m, steps]
    return _distance(scores @ scores.T / scores.shape[1])


def _gradient_distance(trajectories: Sequence[Trajectory], cosines: Cosines) -> np.ndarray:
    import numpy as np

    tasks = [trajectory.task for trajectory in trajectories]
    return _distance(np.array([[cosines[task, other] for other in tasks] for task in tasks]))


def _distance(similarity: np.ndarray) -> np.ndarray:
    import numpy as np

    distance = (1 - similarity).round(DECIMALS)
    np.fill_diagonal(distance, 0.0)
    return np.maximum((distance + distance.T) / 2, 0.0)


def _standardised(trajectory: Trajectory) -> np.ndarray:
    """Mean 0 and standard deviation 1 over the steps, 0 everywhere for a flat trajectory: [steps]."""
    import numpy as np

    values = trajectory.values()
    centred = values - values.mean()
    spread = centred.std()
    return centred / spread if spread > 1e-12 * max(1.0, float(np.abs(values).max())) else np.zeros_like(values)
