"""Training processes that end in one manner or another; torchrun starts them with `-m ... MANNER --attached`."""

from __future__ import annotations

import os
import signal
import sys
import time

from automixer_assets.errors import AutomixerError
from automixer_assets.launch.attached import end_with_the_starter, training_process


def main(manner: str) -> None:
    last = os.environ["RANK"] == "1"
    if manner == "refused":
        os.environ["WORLD_SIZE"] = "1"  # each for itself: nothing here is sent from one to the other
        with training_process("ending", 3, sharded=False, attached=True) as here:
            here.log("begun")
            assert here.on_progress is not None
            here.on_progress(1, 2.5, 0.1, 640.0)
            raise AutomixerError("snapshot X is empty: choose another")
    end_with_the_starter()
    if manner == "killed" and last:
        os.kill(os.getpid(), signal.SIGKILL)
    if manner == "broken" and last:
        print("a library's warning", file=sys.stderr)
        raise ValueError("the device is lost")
    if manner == "starved" and last:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    print(f"process {os.getpid()}", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
