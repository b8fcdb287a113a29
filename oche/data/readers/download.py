"""Published archives: downloaded once, checked, kept; or found where somebody put them by hand."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oche.core.console import progress_bar
from oche.core.errors import OcheError

_CHUNK = 1 << 18  # bytes between two movements of the progress bar
_TIMEOUT = 30  # seconds without an answer


@dataclass(frozen=True)
class Archive:
    """A file as it was published."""

    file: str
    md5: str
    """as the publisher, or torchvision's source, gives it"""
    urls: tuple[str, ...]
    """where it lies; the next is tried when one fails"""
    unpacked: str
    """the file or folder that unpacking makes of it, which serves as well"""


def cache_folder(name: str) -> Path:
    """The folder that keeps the downloads of the set ``name``. (Several sets have files of the same name.)"""
    import pooch

    return Path(pooch.os_cache("oche")) / name


def locate_archive(name: str, archive: Archive, data_dir: Path | None, show: bool) -> tuple[Path, str]:
    """Where ``archive`` of the set ``name`` lies, and a note if it is not as published.

    With ``data_dir``: in it, in its folder ``name``, or in the folder that torchvision makes; archived or unpacked; the
    network is left alone. Without: from the cache, downloaded first if need be. Raises `OcheError`.
    """
    return _download(name, archive, show) if data_dir is None else _on_disk(name, archive, data_dir)


def _on_disk(name: str, archive: Archive, data_dir: Path) -> tuple[Path, str]:
    if data_dir.name == archive.unpacked and data_dir.is_dir():
        return data_dir, ""
    for folder in (data_dir, data_dir / name, data_dir / _TORCHVISION.get(name, name)):
        if (path := folder / archive.file).is_file():
            other = "" if _md5(path) == archive.md5 else f"{archive.file} differs from the published file (by its md5)"
            return path, other
        if (path := folder / archive.unpacked).exists():
            return path, ""
    unpacked = "" if archive.unpacked == archive.file else f" (nor {archive.unpacked}, unpacked)"
    raise OcheError(f"{data_dir} has no {archive.file}{unpacked} for {name}; put it there from {archive.urls[0]}")


_TORCHVISION = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _download(name: str, archive: Archive, show: bool) -> tuple[Path, str]:
    import pooch

    pooch.get_logger().setLevel(logging.WARNING)
    folder = cache_folder(name)
    tried = []
    for url in archive.urls:
        with progress_bar(f"downloading {archive.file}", None, show, download=True) as advance:
            meter: Any = _Meter(advance)  # pooch's annotations know of booleans alone
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
    """What pooch takes for a progress bar."""

    def __init__(self, advance: Callable[..., None]) -> None:
        self.total = 0
        self._advance = advance

    def update(self, n: int) -> None:
        self._advance(n, self.total or None)

    def reset(self) -> None: ...

    def close(self) -> None: ...


def _reason(error: Exception) -> str:
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
