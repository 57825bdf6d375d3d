"""Run per-shard functions on a Ray cluster. The functions themselves, and their completion markers, are the stages'."""
