"""The notebooks run from top to bottom, check themselves, and are kept with their outputs and nothing else.

What is written is their text, notebooks/NAME.py. After a change: python tests/test_notebooks.py [NAME ...], which makes
notebooks/NAME.ipynb of it, runs that and keeps what comes out.
"""

import re
import sys
import tempfile
from pathlib import Path

import pytest
from pages import code as code_of

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")
jupytext = pytest.importorskip("jupytext")

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FIRST = ("losses", "your_folder", "value_map", "new_reward", "to_timm")
"""In the order in which they are read; then those of the families of losses."""
FAMILIES = ("contrastive", "distillation", "prediction", "bootstrapping")
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
PICTURES = 200_000
"""Bytes, as base64, of all pictures of a notebook."""


def read(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def written(path):
    """The notebook that its text makes, not run."""
    cells = jupytext.read(path.with_suffix(".py")).cells
    for i, cell in enumerate(cells):
        cell.id, cell.metadata = f"cell-{i:02}", {}
    return nbformat.v4.new_notebook(cells=cells, metadata=KERNEL)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(notebook, folder):
    """Run it in place, in another process, without noting the time."""
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", record_timing=False, coalesce_streams=True
    )
    with tempfile.TemporaryDirectory() as sockets:
        # Files for sockets: two runs side by side may ask for the same port.
        client.create_kernel_manager()
        client.km.transport, client.km.ip = "ipc", f"{sockets}/kernel"
        client.execute(cwd=str(folder))
    return notebook


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where Jupyter, IPython and matplotlib keep what they keep: not in the home of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("home")
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
    return {name: str(folder / name.lower()) for name in names}


def test_each_has_a_text_and_a_place_on_the_page_about_them():
    assert [path.stem for path in NOTEBOOKS] == sorted(FIRST + FAMILIES)
    assert sorted(path.stem for path in (ROOT / "notebooks").glob("*.py")) == sorted(FIRST + FAMILIES)
    page = (ROOT / "docs" / "notebooks.md").read_text()
    assert re.findall(r"\]\(\.\./notebooks/(\w+)\.ipynb\)", page) == [*FIRST, *FAMILIES]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_the_notebook_of_its_text(path):
    said, kept = (
        [(cell.cell_type, cell.source) for cell in notebook.cells] for notebook in (written(path), read(path))
    )
    assert said == kept


def test_the_new_reward_is_that_of_the_page_about_adding_one():
    lines = code_of("extend.md", "A reward")[0].splitlines()
    (shown,) = [cell.source for cell in code(read(ROOT / "notebooks" / "new_reward.ipynb")) if "class " in cell.source]
    assert shown.splitlines() == lines[2:]  # without what the file would say of itself


@pytest.mark.whole
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
# What Jupyter and its sockets warn of is not ours to mend; what the notebook itself does runs in another process.
@pytest.mark.filterwarnings("ignore")
def test_runs(path, home, tmp_path, monkeypatch):
    for name, folder in home.items():
        monkeypatch.setenv(name, folder)
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # the tests' own, which compile fast and run slowly
    notebook = run(read(path), tmp_path)
    assert all(cell.execution_count for cell in code(notebook))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_checks_itself(path):
    asserting = [cell for cell in code(read(path)) if re.search(r"^ *assert ", cell.source, re.M)]
    assert len(asserting) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_as_it_ran(path):
    notebook = read(path)
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert 0 < sum(map(len, pictures)) < PICTURES
    # Neither where it ran nor when, nor with which Python.
    said = [cell.source for cell in notebook.cells] + [str(o.get("text") or o.get("data")) for o in outputs]
    text = "\n".join(x for x in said if "image/png" not in x)
    assert not re.search(r"(?<![\w~.])/(home|tmp|root|work|Users|usr|opt|mnt)/|\b[A-Z]:\\", text)
    assert not [cell for cell in notebook.cells if cell.metadata]
    assert notebook.metadata == KERNEL


if __name__ == "__main__":
    for path in sorted(path.with_suffix(".ipynb") for path in (ROOT / "notebooks").glob("*.py")):
        if path.stem in (sys.argv[1:] or [path.stem]):
            kept = run(written(path), ROOT)
            kept.metadata = KERNEL
            nbformat.write(kept, path)
