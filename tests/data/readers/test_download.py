"""Downloads, from a server on this machine: what is fetched, kept, refused, and said when there is no network."""

import hashlib
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from data_files import write_mnist
from oche.core.errors import OcheError
from oche.data import load
from oche.data.readers import download as archives
from oche.data.readers import named
from oche.data.readers.download import Archive, locate_archive


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """An empty cache of this test's own, and no proxy between it and this machine."""
    monkeypatch.setattr(archives, "cache_folder", lambda name: tmp_path / "cache" / name)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


@contextmanager
def server(files: dict[str, bytes]):
    """Serves ``files``; gives the address and the list of what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            data = files.get(self.path)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *args) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}", asked
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def published(data: bytes, *urls: str) -> Archive:
    return Archive("things.gz", hashlib.md5(data).hexdigest(), urls, "things")


def closed_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}"


def test_downloads_once_and_keeps(cached):
    data = bytes(range(256)) * 3000  # several chunks
    with server({"/things.gz": data}) as (url, asked):
        archive = published(data, f"{url}/things.gz")
        for _ in range(2):
            assert locate_archive("set", archive, None, show=False) == (cached / "set" / "things.gz", "")
        assert asked == ["/things.gz"]
    assert (cached / "set" / "things.gz").read_bytes() == data


def test_a_bar_shows_the_bytes(cached, capsys):
    data = bytes(700_000)
    with server({"/things.gz": data}) as (url, _):
        locate_archive("set", published(data, f"{url}/things.gz"), None, show=True)
    assert (cached / "set" / "things.gz").read_bytes() == data
    seen: list[tuple[int, int | None]] = []
    meter = archives._Meter(lambda n, total=None: seen.append((n, total)))
    meter.total = 5
    meter.update(3)
    assert seen == [(3, 5)]


def test_another_hash_is_refused_and_not_kept(cached):
    with server({"/things.gz": b"other"}) as (url, _), pytest.raises(OcheError, match="its md5 differs"):
        locate_archive("set", published(b"right", f"{url}/things.gz"), None, show=False)
    assert not list((cached / "set").iterdir())


def test_a_damaged_copy_in_the_cache_is_fetched_anew(cached):
    (cached / "set").mkdir(parents=True)
    (cached / "set" / "things.gz").write_bytes(b"damaged")
    with server({"/things.gz": b"right"}) as (url, _):
        path, _ = locate_archive("set", published(b"right", f"{url}/things.gz"), None, show=False)
    assert path.read_bytes() == b"right"


def test_the_next_address_is_tried(cached):
    with server({"/b/things.gz": b"right"}) as (url, asked):
        archive = published(b"right", f"{closed_port()}/things.gz", f"{url}/a/things.gz", f"{url}/b/things.gz")
        path, _ = locate_archive("set", archive, None, show=False)
        assert path.read_bytes() == b"right" and asked == ["/a/things.gz", "/b/things.gz"]


def test_offline_says_what_was_tried_and_what_to_do(cached):
    with server({}) as (url, _):
        gone, nobody = f"{url}/things.gz", f"{closed_port()}/things.gz"
        with pytest.raises(OcheError) as error:
            locate_archive("set", published(b"", gone, nobody), None, show=False)
    text = str(error.value)
    assert f"{gone} (the server answers 404)" in text and f"{nobody} (no connection)" in text
    assert f"put things.gz by hand into {cached / 'set'}" in text and "--data-dir" in text and "\n" not in text


def test_a_whole_set_by_download(cached, tmp_path, monkeypatch):
    made = write_mnist(tmp_path / "site")
    files = {f"/{p.name}": p.read_bytes() for p in (tmp_path / "site").iterdir()}
    with server(files) as (url, asked):
        md5 = [hashlib.md5(files[f"/{n}.gz"]).hexdigest() for n in made]
        replaced = named.NamedSet(named._idx_archives(tuple(md5), f"{url}/"), named.NAMED["mnist"].read)
        monkeypatch.setitem(named.NAMED, "mnist", replaced)
        data = load("mnist")
        assert len(data.train) == 20 and data.note == "" and len(asked) == 4
    assert load("mnist").mean == data.mean  # the server is gone


def test_a_file_put_into_the_cache_by_hand_is_used(cached):
    (cached / "set").mkdir(parents=True)
    (cached / "set" / "things.gz").write_bytes(b"right")
    assert (
        locate_archive("set", published(b"right", f"{closed_port()}/x"), None, show=False)[0].read_bytes() == b"right"
    )


def test_a_variable_moves_downloads_and_kernels(tmp_path, monkeypatch):
    monkeypatch.setenv("OCHE_CACHE", str(tmp_path / "own"))
    assert archives.cache_folder("mnist") == tmp_path / "own" / "mnist"
    monkeypatch.delenv("OCHE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert archives.cache_folder("mnist").is_relative_to(tmp_path / "xdg")
