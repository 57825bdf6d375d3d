"""Objects below one URL (s3://bucket/prefix), through fsspec: read, created if absent, deleted, listed.

What may pass (throttling, a connection cut midway, an error of the server) is tried again, counted and logged; what
the user must mend is one sentence. Keys are relative to the URL. Nothing here knows what a lake is, or compares times.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from automixer_assets.errors import AutomixerError, ConfigurationError

ATTEMPTS = 8
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 10.0
PART_BYTES = 16 * 2**20
"""Of a multipart upload: a file is never in memory as a whole beyond twice this."""
PASSING_CODES = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling", "429", "500", "503"}
PASSING_CODES |= {"502", "504", "ThrottlingException", "RequestLimitExceeded", "ConditionalRequestConflict", "409"}
EXISTS_CODES = {"PreconditionFailed", "412"}
DENIED_CODES = {"AccessDenied", "403", "AllAccessDisabled", "Forbidden"}
CREDENTIALS = "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"
PASSING_NAMES = ("Timeout", "Connection", "IncompleteRead", "ClientPayloadError", "HTTPClientError", "ResponseParser")
log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class StoredObject:
    """A key with its size in bytes."""

    key: str
    size: int


class OpenedObject:
    """An object as it stood when it was opened: ranges of it are tried again as all else is.

    S3 is asked for that very version (If-Match): a range is never of an object that has replaced it since.
    """

    def __init__(self, store: ObjectStore, key: str, file: Any) -> None:
        self.key, self.size = key, int(file.size)
        self._store, self._file = store, file

    def read(self, start: int, end: int) -> bytes:
        """Its bytes from `start` to `end`."""
        try:
            return self._store.attempt(self.key, lambda: self._range(start, end))
        except (FileNotFoundError, FileExistsError) as error:
            raise AutomixerError(
                f"{self._store.location(self.key)} was deleted or replaced while it was read: restore it from a copy "
                "of the lake"
            ) from error

    def close(self) -> None:
        self._file.close()

    def _range(self, start: int, end: int) -> bytes:
        try:
            self._file.seek(start)
            content: bytes = self._file.read(end - start)
        except OSError as error:
            if type(error).__name__ == "FileExpired":  # s3fs' word for another ETag
                raise FileExistsError(self.key) from error
            raise
        if len(content) != end - start:
            raise ConnectionError(f"cut after {len(content)} of {end - start} bytes")
        return content


class ObjectStore:
    """The objects below `url`.

    Args:
        options: keyword arguments of the fsspec file system, e.g. `{"endpoint_url": ...}`. Credentials are no option:
            the client takes them from the environment, as its provider documents.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        self.url, self.options = url.rstrip("/"), dict(options or {})
        self.retries = 0
        self._opened: tuple[int, Any] | None = None

    @property
    def filesystem(self) -> Any:
        """The fsspec file system, one a process: its thread does not survive a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), _open(self.url, self.options)
        return self._opened[1]

    def location(self, key: str) -> str:
        return f"{self.url}/{key}"

    def path(self, key: str) -> str:
        """What the file system calls the object."""
        return self.location(key).partition("://")[2]

    def read(self, key: str) -> bytes | None:
        """The object's bytes; None where there is none."""
        return self._absent_is_none(key, lambda: self.filesystem.cat_file(self.path(key)))

    def fetch(self, key: str, target: Path) -> bool:
        """Copy the object to the file `target`; False where there is none."""

        def fetch() -> bool:
            self.filesystem.get_file(self.path(key), str(target))
            return True

        return self._absent_is_none(key, fetch) or False

    def open(self, key: str) -> OpenedObject | None:
        """The object, to be read by ranges; None where there is none."""

        def opened() -> OpenedObject:
            return OpenedObject(self, key, self.filesystem.open(self.path(key), "rb", cache_type="none"))

        return self._absent_is_none(key, opened)

    def size(self, key: str) -> int | None:
        """The object's bytes in number; None where there is none."""
        return self._absent_is_none(key, lambda: int(self.filesystem.info(self.path(key))["size"]))

    def create(self, key: str, content: bytes) -> bool:
        """Put the object unless it exists; False, and nothing is changed, where it does.

        After a connection was cut the first try may have won unseen: then a caller finds its own bytes there.
        """
        put = self.filesystem.pipe_file
        return self._absent_only(key, lambda: put(self.path(key), content, mode="create"))

    def upload(self, key: str, source: Path) -> bool:
        """Put a file's bytes unless the object exists; see `create`."""
        put = self.filesystem.put_file
        return self._absent_only(
            key, lambda: put(str(source), self.path(key), mode="create", chunksize=PART_BYTES, max_concurrency=1)
        )

    def delete(self, key: str) -> None:
        """Delete the object if it is there."""
        self._absent_is_none(key, lambda: self.filesystem.rm_file(self.path(key)))

    def list_below(self, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key begins with `prefix/`, in key order: asked of the store, page by page."""
        found = self._absent_is_none(prefix, lambda: self.filesystem.find(self.path(prefix).rstrip("/"), detail=True))
        root = self.path("").rstrip("/") + "/"
        for name, details in sorted((found or {}).items()):
            yield StoredObject(name.removeprefix(root), int(details["size"]))

    def _absent_only(self, key: str, put: Callable[[], Any]) -> bool:
        try:
            self.attempt(key, put)
        except FileExistsError:
            return False
        return True

    def _absent_is_none(self, key: str, action: Callable[[], Result]) -> Result | None:
        try:
            return self.attempt(key, action)
        except FileNotFoundError:
            return None

    def attempt(self, key: str, action: Callable[[], Result]) -> Result:
        """The result, after as many tries as it takes; FileNotFoundError and FileExistsError are for the caller."""
        for attempt in range(ATTEMPTS):
            try:
                return action()
            except Exception as error:
                code = error_code(error)
                if code in EXISTS_CODES:
                    raise FileExistsError(key) from error
                if isinstance(error, FileExistsError) or (
                    isinstance(error, FileNotFoundError) and code != "NoSuchBucket"
                ):
                    raise
                if not _may_pass(error, code):
                    raise self._said(key, error, code) from error
                self._wait(key, error, attempt)
        raise AssertionError  # the last attempt returns or raises

    def _wait(self, key: str, error: Exception, attempt: int) -> None:
        if attempt + 1 == ATTEMPTS:
            raise AutomixerError(
                f"{self.location(key)} failed {ATTEMPTS} times ({_first_line(error)}): see whether the store is up, "
                "then run again; what was done is kept"
            ) from error
        self.retries += 1
        seconds = min(FIRST_WAIT_SECONDS * 2**attempt, LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1)
        log.warning(
            "%s: %s; try %d of %d in %.1f s (retry %d of this process)",
            self.location(key),
            _first_line(error),
            attempt + 2,
            ATTEMPTS,
            seconds,
            self.retries,
        )
        time.sleep(seconds)

    def _said(self, key: str, error: Exception, code: str) -> AutomixerError:
        bucket = self.path("").partition("/")[0]
        if code == "NoSuchBucket":
            return ConfigurationError(
                f"bucket {bucket} does not exist: create it, or correct AUTOMIXER_LAKE={self.url}"
            )
        if "NoCredentials" in type(error).__name__ or "PartialCredentials" in type(error).__name__:
            return ConfigurationError(
                f"no credentials for {self.url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if code in CREDENTIALS:
            return ConfigurationError(
                f"the credentials for {self.url} are refused ({code}): renew AWS_ACCESS_KEY_ID and what belongs to it"
            )
        if code in DENIED_CODES or isinstance(error, PermissionError):
            return AutomixerError(
                f"no permission for {self.location(key)} ({_first_line(error)}): allow s3:GetObject, s3:PutObject, "
                "s3:DeleteObject below the prefix, and s3:ListBucket, without which an absent object looks forbidden"
            )
        return AutomixerError(
            f"{self.location(key)} failed ({_first_line(error)}): see AUTOMIXER_LAKE and its endpoint"
        )


def error_code(error: BaseException) -> str:
    """The code in the server's answer, or nothing."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, Mapping):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _open(url: str, options: Mapping[str, Any]) -> Any:
    from fsspec.core import url_to_fs

    chosen: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if url.startswith("s3://"):
        # Retries are ours, so that they are counted; with one request at a time an object is read without a HEAD.
        retries = {"retries": {"mode": "standard", "total_max_attempts": 1}}
        chosen |= {"max_concurrency": 1, "config_kwargs": retries}
    try:
        filesystem, _ = url_to_fs(url, **{**chosen, **options})
    except ImportError as error:
        raise ConfigurationError(f"{url} needs the extra s3: pip install 'automixer-assets[s3]' ({error})") from None
    except ValueError as error:
        raise ConfigurationError(f"AUTOMIXER_LAKE={url} is no address that fsspec knows ({error})") from None
    if hasattr(filesystem, "retries"):
        filesystem.retries = 1
    return filesystem


def _may_pass(error: Exception, code: str) -> bool:
    if code:
        return code in PASSING_CODES
    if isinstance(error, (ConnectionError, TimeoutError)) or getattr(error, "errno", None) in (errno.EBUSY, errno.EIO):
        return True
    return any(name in kind.__name__ for kind in type(error).__mro__ for name in PASSING_NAMES)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def parse_options(text: str, variable: str) -> dict[str, Any]:
    """Options as JSON; ConfigurationError naming the variable where they are none."""
    try:
        options = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f'{variable} is not JSON ({error}): write e.g. {{"anon": true}}') from None
    if not isinstance(options, dict):
        raise ConfigurationError(f'{variable} is no JSON object: write e.g. {{"anon": true}}')
    return options
