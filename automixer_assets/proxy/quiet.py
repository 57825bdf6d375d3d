"""Silence for third parties: their bars and log lines would bury the progress that the caller shows."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator

NOISY = ("lm_eval", "datasets", "transformers", "accelerate", "huggingface_hub")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No bars on stderr and only errors in the logs of lm-eval, datasets and transformers; restored on leaving.

    The bars take `sys.stderr` when they are made and cannot all be switched off, hence the redirection.
    """
    loggers = [logging.getLogger(name) for name in NOISY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
