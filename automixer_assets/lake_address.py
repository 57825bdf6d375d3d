"""Which lake the environment names: a folder, or an object store with a folder for copies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from automixer_assets.errors import ConfigurationError
from automixer_assets.lake import Lake
from automixer_assets.lake_cache import LakeCache
from automixer_assets.object_store import ObjectStore, parse_options
from automixer_assets.remote_lake import RemoteLake

ADDRESS, OPTIONS = "AUTOMIXER_LAKE", "AUTOMIXER_LAKE_OPTIONS"
CACHE, CACHE_BYTES = "AUTOMIXER_LAKE_CACHE", "AUTOMIXER_LAKE_CACHE_BYTES"
DEFAULT_CACHE_BYTES = 50 * 10**9
SECRETS = {"key", "secret", "token", "username", "password"}


def open_lake(environment: Mapping[str, str], state: Path) -> Lake:
    """The lake at AUTOMIXER_LAKE, by default `state/lake`. Nothing is asked of a store yet.

    Raises:
        ConfigurationError: one of the variables cannot be used.
    """
    return lake_at(environment.get(ADDRESS) or str(state / "lake"), environment, state)


def lake_at(address: str, environment: Mapping[str, str], state: Path) -> Lake:
    """The lake at `address`, a folder or a URL; the environment says how stores are reached."""
    address = address.removeprefix("file://")
    if "://" not in address:
        return Lake(Path(address).expanduser().absolute())
    options = parse_options(environment[OPTIONS], OPTIONS) if environment.get(OPTIONS) else {}
    if secrets := SECRETS & options.keys():
        raise ConfigurationError(
            f"{OPTIONS} holds {min(secrets)!r}: credentials are read from their own variables, e.g. AWS_ACCESS_KEY_ID"
        )
    folder = Path(environment.get(CACHE) or state / "lake-cache").expanduser().absolute()
    return RemoteLake(ObjectStore(address, options), LakeCache(folder, _cache_bytes(environment)))


def _cache_bytes(environment: Mapping[str, str]) -> int:
    text = environment.get(CACHE_BYTES, "")
    try:
        limit = int(float(text)) if text else DEFAULT_CACHE_BYTES
    except ValueError:
        limit = 0
    if limit <= 0:
        raise ConfigurationError(f"{CACHE_BYTES}={text} is no number of bytes: write e.g. 50e9")
    return limit
