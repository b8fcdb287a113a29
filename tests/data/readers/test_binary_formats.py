"""Published formats, read from files made here byte by byte, and refused with the file's name where they are damaged."""

import gzip
import tarfile

import numpy as np
import pytest

from data_files import cifar_bytes, idx_bytes, pixels, write_svhn, write_tar
from oche.core.errors import OcheError
from oche.data.readers import binary_formats as formats

ROOM = 10**9


@pytest.mark.parametrize("pack", [gzip.compress, bytes])
def test_idx_gives_the_array_packed_or_not(tmp_path, pack):
    array = pixels(5, 7, 3)
    file = tmp_path / "x-idx3-ubyte"
    file.write_bytes(pack(idx_bytes(array)))
    assert np.array_equal(formats.read_idx(file, 3, ROOM), array)


_GOOD = idx_bytes(pixels(4, 3, 3))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it starts with nothing"),
        (b"<html>", "not an IDX file"),
        (bytes((0, 0, 13, 3)) + _GOOD[4:], "not an IDX file of bytes"),  # 13: floats
        (bytes((0, 0, 8, 1)) + _GOOD[4:], "not an IDX file of bytes with 3 axes"),
        (_GOOD[:-1], "claims 36 bytes"),
        (_GOOD + b"\0", "has more"),
        (_GOOD[:10], "empty; download it again"),
        (_GOOD[:4], "empty; download it again"),
        (gzip.compress(_GOOD, mtime=0)[:-9], "cannot be read"),
        (gzip.compress(_GOOD, mtime=0)[:-6] + b"abcdef", "cannot be read"),  # CRC
        (_GOOD[:4] + b"\xff" * 12, "GB of memory"),  # claims 4e9 cubed: nothing of it is allocated
    ],
)
def test_idx_refuses_what_is_damaged(tmp_path, data, says):
    file = tmp_path / "broken"
    file.write_bytes(data)
    with pytest.raises(OcheError, match=says) as error:
        formats.read_idx(file, 3, ROOM)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_cifar_takes_the_last_label_and_the_three_planes():
    images = pixels(6, 3, 32, 32)
    x, y = formats.read_cifar("f", cifar_bytes(images, np.arange(6)), 1)
    assert np.array_equal(x, images) and y.tolist() == [0, 1, 2, 3, 4, 5]
    x, y = formats.read_cifar("f", cifar_bytes(images, np.zeros(6), np.arange(6) + 90), 2)
    assert np.array_equal(x, images) and y.tolist() == [90, 91, 92, 93, 94, 95]


@pytest.mark.parametrize("data", [b"", bytes(3072), bytes(3074)])
def test_cifar_refuses_broken_records(data):
    with pytest.raises(OcheError, match=r"a\.tar: train\.bin has .* not a multiple of 3073"):
        formats.read_cifar("a.tar: train.bin", data, 1)


def test_members_come_from_archive_or_folder(tmp_path):
    files = {"a.bin": b"123", "b.txt": b"xyz", "other": b"?"}
    write_tar(tmp_path / "t.tar.gz", "inner", files)
    (tmp_path / "inner").mkdir()
    for name, data in files.items():
        (tmp_path / "inner" / name).write_bytes(data)
    for path in (tmp_path / "t.tar.gz", tmp_path / "inner"):
        assert formats.read_members(path, ("a.bin", "b.txt"), ROOM) == {"a.bin": b"123", "b.txt": b"xyz"}
        with pytest.raises(OcheError, match=r"has no c\.bin; use the archive's binary version"):
            formats.read_members(path, ("a.bin", "c.bin"), ROOM)


def test_members_refuse_damage_and_size(tmp_path):
    write_tar(tmp_path / "t.tar.gz", "inner", {"a.bin": pixels(50_000).tobytes()})
    whole = (tmp_path / "t.tar.gz").read_bytes()
    with pytest.raises(OcheError, match="GB of memory"):
        formats.read_members(tmp_path / "t.tar.gz", ("a.bin",), 49_999)
    for name, data in {"half": whole[: len(whole) // 2], "none": b"", "html": b"<html></html>"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(OcheError, match=f"{name} cannot be read"):
            formats.read_members(tmp_path / name, ("a.bin",), ROOM)


def test_members_pass_links_over(tmp_path):
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        link = tarfile.TarInfo("inner/a.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(OcheError, match=r"has no a\.bin"):
        formats.read_members(tmp_path / "t.tar", ("a.bin",), ROOM)


def test_svhn_moves_axes_and_calls_ten_zero(tmp_path):
    x, y = pixels(32, 32, 3, 4), np.array([10, 1, 9, 10])
    write_svhn(tmp_path / "train_32x32.mat", x, y)
    images, labels = formats.read_svhn(tmp_path / "train_32x32.mat", ROOM)
    assert labels.tolist() == [0, 1, 9, 0]
    for n, c, i, j in [(0, 0, 0, 0), (3, 2, 31, 0), (1, 1, 5, 30)]:
        assert images[n, c, i, j] == x[i, j, c, n]


def test_svhn_refuses_other_files(tmp_path):
    write_svhn(tmp_path / "shape.mat", pixels(32, 32, 4, 3), np.ones(3))
    write_svhn(tmp_path / "count.mat", pixels(32, 32, 3, 3), np.ones(4))
    write_svhn(tmp_path / "type.mat", pixels(32, 32, 3, 3).astype(np.float64), np.ones(3))
    (tmp_path / "text.mat").write_text("<html>not here</html>" * 20)
    (tmp_path / "empty.mat").write_bytes(b"")
    (tmp_path / "cut.mat").write_bytes((tmp_path / "shape.mat").read_bytes()[:-50])
    for name, says in {
        "shape": r"X \(32, 32, 4, 3\)", "count": r"y \(4, 1\)", "type": "X is float64",
        "text": "cannot be read", "empty": "it is empty", "cut": "X|cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(OcheError, match=says) as error:
            formats.read_svhn(tmp_path / f"{name}.mat", ROOM)
        assert f"{name}.mat" in str(error.value)
    with pytest.raises(OcheError, match="GB of memory"):
        write_svhn(tmp_path / "big.mat", pixels(32, 32, 3, 3), np.ones(3))
        formats.read_svhn(tmp_path / "big.mat", 9215)
