"""`abx data index`: indexes made ahead of a run, once."""

import json
import os

import pytest
from pictures import encoded, smooth, write_tar

from abx.cli import main


def index(capsys, *args: str) -> dict:
    main(["data", "index", *args, "--json"])
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_indexes_are_made_once_for_every_part_of_a_mixture(capsys, tmp_path):
    png = encoded(smooth(4, 6), "PNG")
    for name in "abc":
        write_tar(tmp_path / f"{name}.tar", {f"{name}{i}.png": png for i in range(3)})
    spec = f"0.5*tar:{tmp_path}/[ab].tar + 0.5*tar:{tmp_path}/c.tar"
    assert index(capsys, spec, "--workers", "2")["images"] == 9
    made = {name: os.stat(tmp_path / name).st_mtime_ns for name in os.listdir(tmp_path) if name.startswith(".")}
    assert len(made) == 3
    assert index(capsys, spec)["images"] == 9
    assert made == {name: os.stat(tmp_path / name).st_mtime_ns for name in made}


def test_problems_are_told(capsys, tmp_path):
    write_tar(tmp_path / "a.tar", {"x.png": encoded(smooth(4, 6), "PNG"), "y.txt": b"no picture"})
    (tmp_path / "b.tar").write_bytes(b"no tar at all" * 100)
    main(["data", "index", f"tar:{tmp_path}/*.tar", "--workers", "1"])
    out = capsys.readouterr().out
    assert f"left out: {tmp_path}/a.tar:y: no picture among its parts (txt)" in out
    assert f"left out: {tmp_path}/b.tar: not a tar" in out
    assert "1 images, 2 problems" in out


def test_notes_are_told_as_they_are(capsys, tmp_path):
    for name in ("cat/1.png", "dog/2.png", "stray.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(smooth(4, 6), "PNG"))
    main(["data", "index", f"folder:{tmp_path}"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("folders are no classes: 1 of 3 pictures")
    assert said[1].startswith("3 images, 0 problems")


@pytest.mark.parametrize(
    ("args", "said"), [(["tar:HERE/no.tar"], "matches no file"), (["scenes", "--workers", "-1"], "--workers must be")]
)
def test_a_mistake_is_one_sentence(args, said, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "index", *(arg.replace("HERE", str(tmp_path)) for arg in args)])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
