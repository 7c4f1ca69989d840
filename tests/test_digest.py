"""`abx data digest`: the same data is the same digest, whoever makes it and wherever it lies."""

import json
from hashlib import sha256

import numpy as np
import pyarrow.parquet
import pytest
from pictures import encoded, smooth, write_tar

from abx.cli import main
from abx.data.loader import batches
from abx.data.specs import open_source
from abx.data.streams import stream_seed
from abx.data.views import RandomCrops


def digests(capsys, *args: str) -> list[str]:
    main(["data", "digest", *args, "--n", "2", "--size", "16", "--json"])
    return json.loads(capsys.readouterr().out.splitlines()[-1])["digests"]


def test_it_is_the_sha256_of_pixels_and_boxes(capsys):
    ds = batches(open_source("scenes"), RandomCrops(n=2, size=16), 4, stream_seed(3, 1))
    want = [
        sha256(np.asarray(v.images).tobytes() + v.boxes.tobytes()).hexdigest() for v in (ds[s].batch for s in (2, 3))
    ]
    assert digests(capsys, "scenes", "--batch", "4", "--steps", "2:4", "--seed", "3", "--stream", "1") == want


def test_hosts_and_workers_make_no_difference(capsys):
    want = digests(capsys, "scenes", "--text", "captions")
    assert len(set(want)) == 4
    for more in (["--hosts", "2"], ["--hosts", "4", "--workers", "2", "--worker", "thread"], ["--workers", "2"]):
        assert digests(capsys, "scenes", "--text", "captions", *more) == want
    assert digests(capsys, "scenes", "--text", "captions", "--steps", "1:3") == want[1:3]
    assert digests(capsys, "scenes", "--text", "captions", "--seed", "1") != want
    assert digests(capsys, "scenes") != want


def test_the_same_pictures_in_every_kind_of_data(capsys, tmp_path):
    """In the same order, they are the same stream, whatever they are kept in."""
    files = {f"{i}.png": encoded(smooth(20 + i, 30), "PNG") for i in range(6)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    write_tar(tmp_path / "a.tar", dict(list(files.items())[:4]))
    write_tar(tmp_path / "b.tar", dict(list(files.items())[4:]))
    table = pyarrow.table({"image": [{"bytes": data, "path": None} for data in files.values()]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=4)
    want = digests(capsys, f"folder:{tmp_path}")
    main(["data", "prepare", "any", "--src", f"folder:{tmp_path}", "--out", str(tmp_path / "out"), "--workers", "1"])
    for spec in (
        f"tar:{tmp_path}/{{a,b}}.tar",
        f"parquet:{tmp_path}/a.parquet",
        f"arrayrecord:{tmp_path}/out/*.arrayrecord",
    ):
        assert digests(capsys, spec) == want, spec


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere"], "data is "),
        (["scenes", "--hosts", "3"], "--batch must be a multiple of --hosts 3, not 8"),
        (["scenes", "--steps", "4:4"], "--steps must be FIRST:END with FIRST < END, not 4:4"),
        (["scenes", "--steps", "x"], "--steps must be FIRST:END"),
        (["scenes", "--workers", "-1"], "--workers must be at least 0, not -1"),
        (["scenes", "--scale", "0.5", "0.2"], "--scale must be 0 < low <= high <= 1"),
        (["folder:HERE"], "holds no pictures"),
        (["scenes", "--seed", "-1"], "--seed and --stream must be at least 0"),
    ],
)
def test_a_mistake_is_one_sentence(args, said, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "digest", *(arg.replace("HERE", str(tmp_path)) for arg in args)])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1
