"""Published archives: downloaded once, checked and cached, or found in a folder of the user."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oche.core.cache_folders import CACHE_VARIABLE
from oche.core.console import progress_bar
from oche.core.errors import OcheError

_CHUNK = 1 << 18  # bytes between two updates of the progress bar
_TIMEOUT = 30  # seconds to wait for an answer


@dataclass(frozen=True)
class Archive:
    """A file as it was published."""

    file: str
    md5: str
    """from the publisher or from torchvision's source"""
    urls: tuple[str, ...]
    """the next is tried if one fails"""
    unpacked: str
    """the file or folder that unpacking makes of it, which is accepted too"""


def cache_folder(name: str) -> Path:
    """Return the folder for downloads of the set ``name``. (Several sets have files with the same name.)"""
    import pooch

    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("oche")) / name


def locate_archive(name: str, archive: Archive, data_dir: Path | None, show: bool) -> tuple[Path, str]:
    """Return the path of ``archive`` of the set ``name``, and a note if it differs from the published file.

    With ``data_dir`` it is looked for there, in its folder ``name``, and in the folder that torchvision makes, archived
    or unpacked; the network is not used. Otherwise it is in the cache, and is downloaded first if it is not. Raises
    `OcheError`.
    """
    return _download(name, archive, show) if data_dir is None else _on_disk(name, archive, data_dir)


def _on_disk(name: str, archive: Archive, data_dir: Path) -> tuple[Path, str]:
    """Find ``archive`` in ``data_dir``."""
    if data_dir.name == archive.unpacked and data_dir.is_dir():
        return data_dir, ""
    for folder in (data_dir, data_dir / name, data_dir / _TORCHVISION.get(name, name)):
        if (path := folder / archive.file).is_file():
            note = "" if _md5(path) == archive.md5 else f"{archive.file} differs from the published file (by its md5)"
            return path, note
        if (path := folder / archive.unpacked).exists():
            return path, ""
    unpacked = "" if archive.unpacked == archive.file else f" (nor {archive.unpacked}, unpacked)"
    raise OcheError(f"{data_dir} has no {archive.file}{unpacked} for {name}; put it there from {archive.urls[0]}")


_TORCHVISION = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(name: str, archive: Archive, show: bool) -> tuple[Path, str]:
    """Find ``archive`` in the cache, or download it."""
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    folder = cache_folder(name)
    tried = []
    for url in archive.urls:
        with progress_bar(f"downloading {archive.file}", None, show, download=True) as advance:
            meter: Any = _Meter(advance)  # pooch annotates this argument as a boolean only
            fetch: Any = pooch.HTTPDownloader(meter, _CHUNK, timeout=_TIMEOUT)
            try:
                pooch.retrieve(url, f"md5:{archive.md5}", archive.file, folder, downloader=fetch)
                return folder / archive.file, ""
            except (OSError, ValueError) as error:  # requests' errors are OSErrors; ValueError: another hash
                tried.append(f"{url} ({_reason(error)})")
    raise OcheError(
        f"{name} could not be downloaded: tried {', '.join(tried)}; put {archive.file} by hand into {folder}, or into a "
        "folder of your own and name that with --data-dir"
    )


class _Meter:
    """The interface that pooch expects of a progress bar."""

    def __init__(self, advance: Callable[..., None]) -> None:
        self.total = 0
        self._advance = advance

    def update(self, n: int) -> None:
        self._advance(n, self.total or None)

    def reset(self) -> None: ...

    def close(self) -> None: ...


def _reason(error: Exception) -> str:
    """Return the reason of a failed download in a few words."""
    from requests import exceptions as e

    if isinstance(error, e.HTTPError) and error.response is not None:
        return f"the server answers {error.response.status_code}"
    if isinstance(error, e.Timeout):
        return f"no answer in {_TIMEOUT} s"
    if isinstance(error, e.ConnectionError):
        return "no connection"
    if isinstance(error, ValueError) and "hash" in str(error):
        return "what arrived is not the published file: its md5 differs"
    return str(error).split("\n")[0]
