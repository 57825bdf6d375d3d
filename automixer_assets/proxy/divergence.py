"""When a run has diverged: a loss that is no number, or losses that went up and stay there.

The verdict depends on the losses alone, so that a resumed run comes to the same one.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automixer_assets.errors import AutomixerError
from automixer_assets.proxy.checkpoints import list_checkpoints
from automixer_assets.settings import Training

BASELINE_STEPS = 200
"""How many losses before the suspicious ones say what is usual; a run is not judged before."""
MINIMUM_RISE = 0.5
"""nats per token; less is no divergence, however steady the losses were before."""
MAD_TO_DEVIATION = 1.4826
"""The median absolute deviation of normal noise times this is its standard deviation."""


def refuse_divergence(history: Sequence[Mapping[str, Any]], training: Training, run: Path) -> None:
    """Raise AutomixerError when the run with these rows of `training.parquet` has diverged.

    The last good checkpoint is named: one whose weights gave a loss in the next step that was still usual.
    """
    last, patience = history[-1], training.spike_steps or 0
    if not (math.isfinite(last["loss"]) and math.isfinite(last["gradient_norm"])):
        first, remedy = last["step"], ""
        what = f"loss {last['loss']} and gradient norm {last['gradient_norm']} at step {first} of {run}"
    elif patience and stays_up([row["loss"] for row in history[-BASELINE_STEPS - patience :]], training):
        first, remedy = last["step"] - patience + 1, ", or allow it with training.spike_steps: null"
        what = f"the loss of {run} jumped at step {first} and has not come down for {patience} steps"
    else:
        return
    good = [path for step, path in list_checkpoints(run).items() if step + 1 < first]
    place = f"the last good checkpoint is {good[-1]}" if good else "there is no earlier checkpoint"
    raise AutomixerError(f"{what}: {place}; lower training.learning_rate or lengthen training.warmup_steps{remedy}")


def stays_up(losses: Sequence[float], training: Training) -> bool:
    """True when the last `training.spike_steps` losses are all spikes against the 200 before them."""
    patience = training.spike_steps or 0
    if patience == 0 or len(losses) < BASELINE_STEPS + patience:
        return False
    baseline = losses[-BASELINE_STEPS - patience : -patience]
    return min(losses[-patience:]) > loss_bound(baseline, training.spike_deviations)


def loss_bound(baseline: Sequence[float], deviations: float) -> float:
    """What a spike exceeds: the median of the baseline plus so many robust standard deviations, at least .5 nats."""
    median = statistics.median(baseline)
    spread = MAD_TO_DEVIATION * statistics.median(abs(loss - median) for loss in baseline)
    return median + max(deviations * spread, MINIMUM_RISE)
