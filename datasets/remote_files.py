"""Whole files or byte ranges from URLs, by fsspec with a limited number of retries.

Addresses and credentials come from fsspec's configuration and the environment (AWS_ENDPOINT_URL, AWS_PROFILE,
GOOGLE_APPLICATION_CREDENTIALS ...).
"""

import time
from typing import Any

import fsspec

from utils.errors import UserError, first_line

ATTEMPTS = 5
FIRST_WAIT_S = 0.5
"""Wait before the second attempt; doubled for each further one."""
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp", "abfs": "adlfs"}


def read_file(url: str) -> bytes:
    """A whole file. Raises the errors of `read_range`."""
    return _read(url, None, None)


def read_range(url: str, begin: int, size: int) -> bytes:
    """`size` bytes of a file from offset `begin`. Raises a UserError if it does not exist or is too short, the server
    does not support ranges, ATTEMPTS attempts failed, or the package for its protocol is not installed."""
    return _read(url, begin, begin + size)


def file_lengths(url: str) -> dict[str, int] | None:
    """Size of each file in a folder, by name; None if the server does not list files (plain HTTP)."""
    if url.startswith(("http://", "https://")):
        return None
    try:
        listed = _file_system(url).ls(url, detail=True)
    except FileNotFoundError:
        return {}
    except UserError:
        raise
    except Exception as error:  # each protocol's library has its own
        raise UserError(f"{url}: cannot be listed ({first_line(error)}); check the network and the address") from None
    return {file["name"].rstrip("/").rpartition("/")[2]: file["size"] or 0 for file in listed}


def _read(url: str, begin: int | None, end: int | None) -> bytes:
    files = _file_system(url)
    reason = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
        try:
            data: Any = files.cat_file(url, start=begin, end=end)
            if begin is None or end is None or len(data) == end - begin:
                return data
            if len(data) > end - begin:
                raise UserError(f"{url}: its server ignores byte ranges; use a server that supports them")
            reason = f"received {len(data)} of {end - begin} bytes"
            is_short = True
        except FileNotFoundError:
            raise UserError(f"{url}: no such file") from None
        except UserError:
            raise
        except Exception as error:  # each protocol's library has its own
            reason = first_line(error)
            is_short = _is_out_of_range(error)
        if is_short and end is not None:
            try:
                _check_length(files, url, end)
            except UserError:
                raise
            except Exception as error:
                reason = first_line(error)
    raise UserError(f"{url}: could not be read in {ATTEMPTS} attempts ({reason}); check the network and the address")


def _check_length(files: fsspec.AbstractFileSystem, url: str, end: int) -> None:
    """Raise a UserError if the file ends before offset `end`."""
    length = files.info(url)["size"]
    if length is not None and length < end:
        raise UserError(
            f"{url}: is truncated: it has {length} bytes, but its index declares {end} or more; copy it again"
        )


def _is_out_of_range(error: Exception) -> bool:
    """Whether a server refused a range that begins after the end."""
    text = str(error).lower()
    return getattr(error, "status", None) == 416 or "invalidrange" in text or "range not satisfiable" in text


def _file_system(url: str) -> fsspec.AbstractFileSystem:
    """Cached per process by fsspec."""
    protocol = url.partition("://")[0]
    try:
        return fsspec.filesystem(protocol)
    except ValueError:
        raise UserError(f"{url}: fsspec does not support the protocol {protocol}://") from None
    except Exception as error:  # a missing package, or an error of the protocol's library
        if isinstance(error, ImportError) and protocol in _PACKAGES:
            package = _PACKAGES[protocol]
            raise UserError(f"{url}: needs {package}; run 'pip install {package}'") from None
        raise UserError(
            f"{url}: fsspec cannot use {protocol}:// ({first_line(error)}); install what it requires"
        ) from None
