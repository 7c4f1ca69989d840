"""Lists of samples as a source, and whether data is the data that it was."""

from pathlib import Path

import pytest
from pictures import encoded, smooth

from abx.data.schemes.folder import Folder
from abx.data.sources import Samples, Source, fingerprint
from abx.types import Record, Sample


def test_a_record_is_a_sample_but_for_its_picture():
    assert Record._fields == Sample._fields
    for name, default in Sample._field_defaults.items():
        assert repr(Record._field_defaults[name]) == repr(default)  # NaN is not NaN


def test_a_list_of_samples_is_a_source():
    source = Samples([Sample(smooth(4, 6), 1, ("a",)), Sample(smooth(5, 7), 0)], ("x", "y"))
    assert isinstance(source, Source)
    assert len(source) == 2
    assert source.stored(0).captions == ("a",)
    assert source[1].image.shape == (5, 7, 3)
    assert source.classes == ("x", "y")
    for i in (-1, 2):
        with pytest.raises(IndexError):
            source[i]


def test_data_that_was_moved_is_the_same_data(tmp_path: Path):
    for place in ("here", "over/there"):
        for name in ("a/1.png", "a/2.png", "b/1.png"):
            path = tmp_path / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(smooth(4, 6), "PNG"))
    here = fingerprint(Folder(str(tmp_path / "here")))
    assert here == fingerprint(Folder(str(tmp_path / "over/there")))
    (tmp_path / "over/there/a/2.png").rename(tmp_path / "over/there/a/3.png")
    assert here != fingerprint(Folder(str(tmp_path / "over/there")))
