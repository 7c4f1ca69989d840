"""abx pca: known components, fixed signs, one scale for all pictures; what is where on the page; the command."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from conftest import TINY
from PIL import Image
from seeing import VIT, refused, stand_in

from abx import cli
from abx.analysis import components as math
from abx.analysis.components import colours, components
from abx.analysis.components_picture import CHANNELS, SIDE, draw_components
from abx.nn import ViT

E = np.linalg.qr(np.random.default_rng(3).normal(size=(8, 8)))[0]
"""Unit vectors at right angles."""


def plane(count=400, seed=0):
    """Tokens about a plane: three units along one direction, one along another, from a mean far away."""
    rng = np.random.default_rng(seed)
    along = rng.normal(size=(count, 2)) * (3, 1)
    return 7 + along @ E[:2]


def test_tokens_on_a_line():
    found = components(np.linspace(-1, 1, 11)[:, None] * E[0] + 5, 3)
    np.testing.assert_allclose(found.share, [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(np.abs(found.axes[0] @ E[0]), 1)
    np.testing.assert_allclose(found.mean, 5)
    np.testing.assert_allclose(np.abs(found.of(5 + E[:1])), [[1, 0, 0]], atol=1e-6)


def test_tokens_on_a_plane_against_the_singular_values():
    tokens = plane()
    found = components(tokens.reshape(20, 20, 8), 3)
    centred = tokens - tokens.mean(0)
    _, sizes, rows = np.linalg.svd(centred)
    np.testing.assert_allclose(found.share, (sizes**2 / (sizes**2).sum())[:3], atol=1e-12)
    np.testing.assert_allclose(np.abs((found.axes[:2] * rows[:2]).sum(1)), 1)
    np.testing.assert_allclose(found.of(tokens)[:, :2] @ found.axes[:2] + found.mean, tokens, atol=1e-9)
    assert found.of(tokens.reshape(4, 5, 20, 8)).shape == (4, 5, 20, 3)


def test_parts_are_the_whole(monkeypatch):
    whole = components(plane(), 2)
    monkeypatch.setattr(math, "ROWS", 7)
    parts = components(plane(), 2)
    np.testing.assert_allclose(parts.axes, whole.axes, atol=1e-12)
    np.testing.assert_allclose(parts.of(plane()), whole.of(plane()), atol=1e-9)


def test_the_order_of_tokens_changes_no_colour():
    tokens = plane()[:, :] + np.random.default_rng(1).normal(size=(400, 8)) * 0.1
    order = np.random.default_rng(2).permutation(400)
    one, other = (colours(components(x, 3).of(x)).astype(int) for x in (tokens, tokens[order]))
    assert np.abs(one[order] - other).max() <= 1


@pytest.mark.parametrize("flips", [(-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_signs_do_not_hang_on_the_solver(monkeypatch, flips):
    rng = np.random.default_rng(5)
    tokens, solve = rng.normal(size=(300, 3)) * (1, 2, 3) @ np.linalg.qr(rng.normal(size=(3, 3)))[0], np.linalg.eigh
    plain = components(tokens, 3)
    monkeypatch.setattr(np.linalg, "eigh", lambda x: (solve(x)[0], solve(x)[1] * np.array(flips)))
    np.testing.assert_array_equal(components(tokens, 3).axes, plain.axes)
    assert (plain.axes[np.arange(3), np.abs(plain.axes).argmax(1)] > 0).all()
    # Of tokens turned round the axes are the same, so that their colours are the opposite.
    np.testing.assert_allclose(components(-tokens, 3).axes, plain.axes, atol=1e-9)


@pytest.mark.parametrize("nudge", [-1e-12, 1e-12])
def test_of_loadings_of_one_size_the_first_is_positive(nudge):
    line = np.linspace(-1, 1, 9)[:, None] * np.array([[1.0, -1.0 + nudge, 0.5]])
    assert components(line, 1).axes[0, 0] > 0


def test_one_scale_for_all_pictures():
    """A token has the same colour in whichever picture it is."""
    tokens = np.random.default_rng(0).normal(size=(2, 9, 8)) * np.arange(1, 9)
    tokens[1, 4] = tokens[0, 0]
    found = colours(components(tokens, 3).of(tokens))
    np.testing.assert_array_equal(found[1, 4], found[0, 0])
    # In pictures one by one it has not.
    alone = [colours(components(x, 3).of(x)) for x in tokens]
    assert np.abs(alone[1][4].astype(int) - alone[0][0]).max() > 5


def test_a_token_of_huge_norm_leaves_the_others_their_colours():
    places = np.random.default_rng(0).uniform(0, 1, (1000, 3))
    before = colours(places)
    places[17] = 1e6
    after = colours(places)
    assert np.abs(np.delete(after, 17, 0).astype(int) - np.delete(before, 17, 0)).max() <= 3
    assert after[17].tolist() == [255] * 3
    assert before.min() == 0
    assert before.max() == 255


def test_where_there_is_nothing_to_see():
    line = components(np.linspace(-1, 1, 50)[:, None] * E[0], 3)
    found = colours(line.of(np.linspace(-1, 1, 50)[:, None] * E[0]))
    assert (found[:, 1:] == 128).all()
    assert np.ptp(found[:, 0].astype(int)) == 255
    same = components(np.ones((5, 8)), 3)
    assert same.share.tolist() == [0, 0, 0]
    assert (colours(same.of(np.ones((5, 8)))) == 128).all()


def test_what_has_no_components():
    with pytest.raises(ValueError, match="not finite"):
        components(np.array([[0.0, np.nan], [1, 2]]), 1)
    with pytest.raises(ValueError, match="tokens of 2 numbers have no 3 components"):
        components(np.zeros((4, 2)), 3)


# The page


@pytest.mark.parametrize(("side", "grid"), [(32, 4), (224, 14), (518, 37)])
def test_every_token_is_a_tile_beside_its_patch(side, grid):
    """In its colour, where its patch is in the picture."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 256, (4, grid, grid, 3), np.uint8)
    pictures = [np.kron(x, np.ones((side // grid, side // grid, 1), np.uint8)) for x in tokens]
    page = np.asarray(draw_components(pictures, tokens, list("abcd"), (1, 2, 3), np.array([0.5, 0.3, 0.1]), "title"))
    row, column = _first(page, tokens[0])
    shown = SIDE // side * side or SIDE
    for token in ((0, 0), (grid - 1, 0), (grid // 2, grid // 3), (grid - 1, grid - 1)):
        y, x = (int((place + 0.5) * shown / grid) for place in token)
        picture, coloured = page[row + y, column + x], page[row + y, column + shown + 4 + x]
        np.testing.assert_array_equal(coloured, tokens[0][token])
        if side < SIDE or side % SIDE == 0:  # not blurred
            np.testing.assert_array_equal(picture, coloured)


def _first(page, tokens):
    """Where the first picture begins: its first token's colour, at the left."""
    found = np.argwhere((np.abs(page[:, 16].astype(int) - tokens[0, 0]) <= 2).all(-1))
    return found[found > 60][0], 16


def test_a_page_of_any_number():
    sizes = []
    for count in (1, 3, 4, 7):
        tokens = np.zeros((count, 2, 2, 3), np.uint8)
        pictures = [np.zeros((16, 16, 3), np.uint8)] * count
        names = ["a/very/long/path/" + "x" * 200] * count
        sizes.append(draw_components(pictures, tokens, names, (1, 2, 3), np.zeros(3), "title").size)
    assert sizes[1][0] < 1600
    assert sizes[2][0] == sizes[1][0]
    assert sizes[0][0] < sizes[1][0]
    assert sizes[1][1] < sizes[2][1] < sizes[3][1]


@pytest.mark.parametrize(("which", "keys"), [((1, 2, 3), 3), ((2, 2, 2), 0)])
def test_the_key_says_what_is_red(which, keys):
    """One component thrice is grey, and has one key."""
    tokens, pictures = np.zeros((1, 2, 2, 3), np.uint8), [np.zeros((16, 16, 3), np.uint8)]
    page = np.asarray(draw_components(pictures, tokens, ["a"], which, np.full(3, 0.2), "title"))
    assert sum((page == colour).all(-1).any() for _, colour in CHANNELS) == keys


# The command


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stand_in(monkeypatch, VIT)
    return tmp_path


def test_a_picture_of_tokens(here, capsys):
    folder = here / "pictures"
    folder.mkdir()
    for i in range(5):
        image = np.random.default_rng(i).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(image).resize((40, 30), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    (folder / "bad.png").write_bytes(b"no")
    cli.main(["pca", "none", "--init", "S/8", "--data", f"folder:{folder}", "--components", "2", "1", "3", "--json"])
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["images"], said["grid"], said["components"]) == (5, [2, 2], [2, 1, 3])
    assert 0 < said["share"][2] < said["share"][0] < said["share"][1] < 1
    assert [name.endswith("bad.png") for name in said["rejected"]] == [True]
    with Image.open(here / "pca.png") as drawn:
        before = np.asarray(drawn)
    cli.main(["pca", "none", "--init", "S/8", "--data", f"folder:{folder}", "--components", "2", "1", "3"])
    with Image.open(here / "pca.png") as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), before)


def test_tokens_of_no_patch_are_left_out(here, monkeypatch, capsys):
    stand_in(monkeypatch, ViT(replace(TINY, pool="token", registers=2), key=jax.random.key(0)))
    cli.main(["pca", "none", "--init", "S/8", "--count", "3", "--json"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["grid"] == [2, 2]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--components 0 1 2", "--components must be from 1 to 384, the numbers of a token, not 0"),
        ("--components 1 2 385", "--components must be from 1 to 384, the numbers of a token, not 385"),
        ("--count 0", "--count must be at least 1, not 0"),
        ("--count 101", "--count must be at most 100, not 101"),
        ("--out x.jpg", "--out x.jpg must end in .png"),
        ("--out no/where.png", "--out no/where.png lies in no, which does not exist"),
        ("--data folder:nowhere", "--data: "),
        ("--size 20", "--size must be a multiple of the patch, 8, not 20"),
    ],
)
def test_what_cannot_be(here, capsys, flags, sentence):
    refused(capsys, f"pca none --init S/8 {flags}", sentence)


def test_a_network_that_has_diverged(here, monkeypatch, capsys):
    broken = jax.tree.map(lambda x: x * np.float32("nan"), VIT)
    stand_in(monkeypatch, broken)
    refused(capsys, "pca none --init S/8 --count 2", "S/8: some tokens are not finite numbers")
