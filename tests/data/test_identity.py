"""The identity of images: content counts, names and places do not; what is sampled differs wherever pictures do."""

import numpy as np
import pytest
import torch
from PIL import Image

from data_files import Bytes
from oche.data.dataset import Resident
from oche.data.identity import array_ids, encoded_id, encoded_ids, identify, split_ids
from oche.data.readers.decode import Damaged, ImageFiles
from oche.data.readers.records import RawDataset
from oche.data.streaming import Streamed

LARGE = 300_000


def noise(size: int, head: bytes = b"", seed: int = 0) -> bytes:
    return (head + np.random.default_rng(seed).bytes(size))[:size]


@pytest.mark.parametrize("head", [b"\xff\xd8\xff", b"\x89PNG", b"BM", b"P6", b"II*\0"])
@pytest.mark.parametrize("size", [1, 1 << 17, (1 << 17) + 1, LARGE])
def test_a_file_and_its_bytes_have_the_same_id_under_any_name(tmp_path, head, size):
    data = noise(size, head)
    for name in ("a.png", "other.jpg"):
        (tmp_path / name).write_bytes(data)
        assert encoded_id(tmp_path / name) == encoded_id(data)
    assert -(1 << 63) <= encoded_id(data) < 1 << 63


@pytest.mark.parametrize("head", [b"BM", b"P6", b"II*\0", b"GIF8", b"RIFF"])
def test_every_byte_of_what_is_not_compressed_counts(head):
    data = noise(LARGE, head)
    for at in (10, 60_000, 150_000, LARGE - 1):
        assert encoded_id(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) != encoded_id(data)


@pytest.mark.parametrize("head", [b"\xff\xd8\xff", b"\x89PNG"])
def test_of_long_compressed_files_length_beginning_and_end_count(head):
    data = noise(LARGE, head)
    for at in (10, 32_767, LARGE - 32_768, LARGE - 1):
        assert encoded_id(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]) != encoded_id(data)
    assert encoded_id(data[:-1]) != encoded_id(data) != encoded_id(data + b"\0")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_one_pixel_in_the_middle_of_a_long_file_changes_its_id(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (480, 480, 3), dtype=np.uint8)
    other = pixels.copy()
    other[240, 240] ^= 255
    found = set()
    for k, image in enumerate((pixels, other)):
        file = tmp_path / f"{k}.{suffix}"
        Image.fromarray(image).save(file, quality=95)
        assert file.stat().st_size > 1 << 17
        found.add(encoded_id(file))
    assert len(found) == 2


def test_arrays_are_known_by_type_shape_and_values():
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    same = array_ids(x.copy())
    assert torch.equal(array_ids(x), same) and same[0] != same[1]
    assert torch.equal(array_ids(np.asfortranarray(x)), same)
    for other in (x.astype(np.int16), x.reshape(2, 2, 3, 2), x + 1):
        assert not (array_ids(other) == same).any()


def test_both_kinds_of_split_have_ids_that_go_along_with_their_rows(tmp_path):
    images = torch.arange(5 * 3 * 8 * 8).remainder(251).to(torch.uint8).view(5, 3, 8, 8)
    resident = Resident(images, torch.arange(5))
    streamed = Streamed(Bytes(*(noise(50, seed=k) for k in range(5))), torch.arange(5), (3, 8, 8))
    for split in (resident, streamed):
        raw = identify(RawDataset("x", split, split.subset(torch.tensor([1, 3])), ("a",)))
        whole, part = split_ids(split), raw.test
        assert torch.equal(raw.train.ids, whole) and len(whole.unique()) == 5
        assert torch.equal(part.ids, whole[[1, 3]])
        rows = torch.tensor([4, 0])
        assert torch.equal(raw.train.subset(rows).ids, whole[rows])
        assert torch.equal(raw.train.subset(rows).to("cpu").relabelled(torch.tensor([7, 8])).ids, whole[rows])
    assert torch.equal(resident.resized((16, 16)).ids, resident.ids)  # known by what was stored
    assert resident.relabelled(torch.tensor([9, 9, 9, 9, 2])).gather(torch.tensor([4]))[1].tolist() == [2]


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(Damaged, match=r"none.png cannot be read \(No such file"):
        encoded_ids(ImageFiles([str(tmp_path / "none.png")]), torch.tensor([0]))
