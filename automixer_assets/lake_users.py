"""Who uses a lake in an object store: an object each, put when a materialisation begins and deleted when it ends.

No lease runs out, for that would trust clocks. The object of a process that was killed on this machine is seen to be
dead by its process id; one of another machine stays until a person deletes it, and whoever waits for it names it.
"""

from __future__ import annotations

import json
import os
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from automixer_assets.object_store import ObjectStore

USERS = ".users"
REMOVER = ".remover"


@dataclass(frozen=True)
class User:
    """A process that uses the lake. `machine` tells machines, and containers of one, apart."""

    key: str
    host: str
    machine: str
    process: int

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def document(self) -> bytes:
        return json.dumps({"host": self.host, "machine": self.machine, "process": self.process}).encode()

    @staticmethod
    def read(key: str, document: bytes) -> User:
        fields = json.loads(document)
        return User(key, fields.get("host", "(unknown)"), fields.get("machine", ""), fields.get("process", 0))


def this_user() -> User:
    return User(f"{USERS}/{uuid.uuid4().hex}", socket.gethostname(), _machine(), os.getpid())


def blocked_by(store: ObjectStore, prefix: str) -> Iterator[User]:
    """Users that may be alive; objects of processes that this machine no longer runs are deleted on the way."""
    for each in store.list_below(prefix):
        document = store.read(each.key)
        if document is None:
            continue
        user = User.read(each.key, document)
        if user.machine == _machine() and not psutil.pid_exists(user.process):
            store.delete(each.key)
            continue
        yield user


def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = [socket.gethostname()]
    if boot.exists() and namespace.is_symlink():
        parts += [boot.read_text().strip(), str(namespace.readlink())]
    return " ".join(parts)
