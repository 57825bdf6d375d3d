"""Locks keep others out, let readers share, and leave nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

from automixer_assets.locks import alone, exclusive, holder, is_held, shared


def test_a_lock_is_held_once_names_its_holder_and_is_gone_afterwards(tmp_path: Path):
    lock = tmp_path / "folder" / "a.lock"
    with exclusive(lock) as first, exclusive(lock) as second:
        assert (first, second) == (True, False)
        assert holder(lock) == str(os.getpid())
        assert is_held(lock)
    assert not lock.exists()
    assert not is_held(lock)


def test_a_file_left_by_a_killed_holder_counts_for_nothing(tmp_path: Path):
    lock = tmp_path / "a.lock"
    lock.write_text("4242")
    assert not is_held(lock)
    lock.write_text("4242")
    with exclusive(lock) as mine:
        assert mine
        assert holder(lock) == str(os.getpid())


def test_readers_share_and_whoever_wants_to_be_alone_is_told_at_once(tmp_path: Path):
    lock = tmp_path / "users.lock"
    with shared(lock), shared(lock), alone(lock) as mine:
        assert not mine
    with alone(lock) as mine, alone(lock) as yours:
        assert (mine, yours) == (True, False)
