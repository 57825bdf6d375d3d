"""The benchmark table (paper, section 3): tasks, scored items, evaluation of checkpoints, checkpoint selection."""
