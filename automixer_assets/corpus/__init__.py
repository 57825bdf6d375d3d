"""Snapshots in, token shards out: inventory of source files, quarantine of bad rows, tokenisation. No Dagster."""
