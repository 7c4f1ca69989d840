import itertools

import numpy as np
import pytest
from PIL import Image

from abx.analysis import page, pictures
from abx.analysis.pictures import Plate, Scale, draw_value_map, draw_views, heat_map, view_colour, viridis
from abx.analysis.value_map import box_grid
from abx.boxes import random_box
from abx.types import Views

SOLID = (7, 77, 177)
"""A colour that nothing else on a page has."""
MIDDLE = np.array([0.25, 0.25, 0.75, 0.75], np.float32)
SHAPES = [(96, 96), (60, 120), (3, 1000), (1000, 3), (1, 1)]


def solid(h, w):
    return np.broadcast_to(np.array(SOLID, np.uint8), (h, w, 3)).copy()


def random_views(rng, n, size=32, hw=(96, 96)):
    return Views(
        rng.integers(0, 256, (1, n, size, size, 3), np.uint8), np.stack([random_box(rng, hw) for _ in range(n)])[None]
    )


def where(page, colour):
    """Rows and columns that have exactly this colour."""
    return np.nonzero((np.asarray(page) == np.array(colour)).all(-1))


def around(page, colour):
    """The box (y0, x0, y1, x1) in pixels around what has this colour."""
    y, x = where(page, colour)
    return np.array([y.min(), x.min(), y.max() + 1, x.max() + 1])


@pytest.fixture
def said(monkeypatch):
    """The lines of text of the pages drawn."""
    lines, text = [], page.text
    monkeypatch.setattr(pictures, "text", lambda string, *a: lines.append(string) or text(string, *a))
    return lines


def simple_map(values, rewards=None, picture=None, targets=None, source=MIDDLE, title="title"):
    values = np.asarray(values, np.float32)
    count = len(values)
    return draw_value_map(
        solid(96, 96) if picture is None else picture,
        source,
        box_grid() if targets is None else targets,
        values,
        [np.full((32, 32, 3), 99, np.uint8)] * count,
        np.full(count, 0.25, np.float32) if rewards is None else np.asarray(rewards, np.float32),
        title=title,
    )


# --- views


@pytest.mark.parametrize("box", [(0.5, 0.25, 0.75, 1.0), (0.0, 0.1, 0.9, 0.3), (0.1, 0.05, 1.0, 0.95)])
@pytest.mark.parametrize("hw", [(60, 120), (120, 60)])
def test_a_box_is_outlined_where_the_crop_was_cut(hw, box):
    views = Views(np.zeros((1, 1, 8, 8, 3), np.uint8), np.array([[box]], np.float32))
    page = draw_views([solid(*hw)], views)
    y0, x0, y1, x1 = around(page, SOLID)
    found = around(page.crop((x0, y0, x1, y1)), view_colour(0)) / np.array([y1 - y0, x1 - x0] * 2)
    np.testing.assert_allclose(found, box, atol=0.004)  # half a pixel of 120 and more
    assert (x1 - x0) / (y1 - y0) == pytest.approx(hw[1] / hw[0], rel=0.02)


def test_crops_are_shown_as_the_network_gets_them(rng):
    """Every pixel a square of one size, none changed, none lost, in the frame of its view's colour."""
    crops = np.arange(3 * 32 * 32 * 3).reshape(1, 3, 32, 32, 3).astype(np.uint8)
    crops[..., 2] = 200 + np.arange(3)[None, :, None, None]
    page = np.asarray(draw_views([solid(90, 90)], random_views(rng, 3)._replace(images=crops)))
    for view in range(3):
        y, x = where(page, crops[0, view, 0, 0])
        shown = page[y.min() : y.min() + 128, x.min() : x.min() + 128]
        np.testing.assert_array_equal(shown, crops[0, view].repeat(4, 0).repeat(4, 1))
        assert tuple(page[y.min() + 64, x.min() - 2]) == view_colour(view)


def test_actions_are_boxes_in_the_frame_of_view_0(rng, said):
    views = Views(
        np.zeros((1, 3, 8, 8, 3), np.uint8),
        np.array([[(0.2, 0.4, 0.6, 0.8), (0.0, 0.4, 0.4, 0.6), (0.199, 0.5, 1.0, 1.0)]], np.float32),
    )
    draw_views([solid(50, 50)], views)
    actions = [line for line in said if line.startswith("(")]
    assert actions == ["(0.0, 0.0, 1.0, 1.0)", "(-0.5, 0.0, 0.5, 0.5)", "(0.0, 0.2, 2.0, 1.5)"]
    assert [line for line in said if ">" in line] == ["0>0", "0>1", "0>2"]


@pytest.mark.parametrize("n", [1, 2, 4, 5, 8, 16, 20])
def test_up_to_any_number_of_views_on_a_page_of_bearable_size(rng, n):
    page = draw_views([solid(96, 96)] * 2, Views(*(np.repeat(part, 2, 0) for part in random_views(rng, n))))
    assert page.width <= 1900
    assert page.height <= 2 * (80 + 200 * max(2, -(-n // 8)))
    for view in range(min(n, 16)):
        assert len(where(page, view_colour(view))[0]) > 2 * 4 * 4 * 128, f"no frame of view {view}"


def test_no_two_tags_overlap(rng):
    """16 random boxes, and four times the same one."""
    for boxes in [random_views(rng, 16).boxes[0] for _ in range(10)] + [np.tile(MIDDLE, (4, 1))]:
        plate = Plate(solid(96, 96), (360, 480))
        for view, box in enumerate(boxes):
            plate.tag(box, str(view), view_colour(view))
        for a, b in itertools.combinations(plate._tags, 2):
            assert page._overlap(a, b) == 0
        for left, top, right, bottom in plate._tags:
            assert left >= 0
            assert top >= 0
            assert right <= plate.canvas.width
            assert bottom <= plate.canvas.height


def test_views_have_colours_of_their_own():
    colours = np.array([view_colour(view) for view in range(16)], int)
    for a, b in itertools.combinations(range(16), 2):
        assert np.abs(colours[a] - colours[b]).max() > 20
    assert view_colour(16) == view_colour(0)


def test_outlines_have_dark_halos_on_both_sides():
    plate = Plate(solid(240, 240), (240, 240))
    plate.outline(MIDDLE, (255, 255, 255))
    left, top, _, bottom = plate.pixels(MIDDLE)
    row = np.asarray(plate.canvas)[(top + bottom) // 2, left - 2 : left + 4]
    assert [tuple(map(int, pixel)) for pixel in row] == [
        SOLID,
        page.INK,
        (255, 255, 255),
        (255, 255, 255),
        page.INK,
        SOLID,
    ]


# --- value map


@pytest.mark.parametrize("hw", [(96, 96), (60, 120)])
@pytest.mark.parametrize("best", [0, 6, 42, 48, 10, 55, 97])
def test_a_value_is_painted_at_the_middle_of_its_box(hw, best):
    targets = box_grid()
    same = slice(0, 49) if best < 49 else slice(49, 98)
    values = np.zeros(98, np.float32)
    values[best] = 1
    plate = heat_map(solid(*hw), targets[same], values[same], Scale(0, 1))
    y0, x0, y1, x1 = around(plate.canvas, viridis(np.array(1.0)))
    middle = ((y0 + y1) / 2 - plate.top) / plate.height, ((x0 + x1) / 2 - plate.left) / plate.width
    np.testing.assert_allclose(middle, (targets[best, :2] + targets[best, 2:]) / 2, atol=0.01)


def test_the_source_and_the_best_box_are_outlined_where_they_are(said):
    """A wide picture, a rectangular source; the only size of box gives one panel beside the legend's."""
    source = np.array([0.1, 0.55, 0.4, 0.95], np.float32)
    targets = np.array([(0.0, 0.0, 0.3, 0.3), (0.6, 0.1, 0.9, 0.4)], np.float32)
    page = simple_map([[0.2, 0.9]], [0.125], solid(120, 240), targets, source)
    y0, x0, y1, x1 = around(page, SOLID)
    picture = page.crop((x0, y0, x1, y1))
    np.testing.assert_allclose(around(picture, pictures.HERE) / [120, 240, 120, 240], source, atol=0.005)
    dark = tuple(v // 2 for v in [int(np.asarray(Image.new("RGB", (1, 1), SOLID).convert("L"))[0, 0])] * 3)
    y, x = where(page, dark)
    many = (np.bincount(y)[y] > 60) & (np.bincount(x)[x] > 60)  # not the rims of letters
    panel = page.crop((x[many].min(), y[many].min(), x[many].max() + 1, y[many].max() + 1))
    assert panel.size == (240, 120)
    np.testing.assert_allclose(around(panel, pictures.HERE) / [120, 240, 120, 240], source, atol=0.005)
    np.testing.assert_allclose(around(panel, pictures.BEST) / [120, 240, 120, 240], targets[1], atol=0.005)
    assert "best move: 0.9" in said
    assert "staying: 0.125" in said


def test_annotations_share_one_scale():
    """All low in one, all high in the other: as many tiles of either end; scaled apart, both would be of one colour."""
    page = simple_map(np.repeat([[0.2], [0.8]], 98, 1))
    low, high = (len(where(page, viridis(np.array(end)))[0]) for end in (0.0, 1.0))
    assert low > 10_000
    assert low == pytest.approx(high, rel=0.02)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_grey_and_never_the_best(bad, said):
    values = np.linspace(0, 0.5, 3 * 98).reshape(3, 98)
    values[0, 50:] = bad
    values[1] = bad
    page = simple_map(values, [bad, 0.5, 0.5])
    assert len(where(page, (128, 128, 128))[0]) > 10_000
    assert [line for line in said if line.startswith("best")] == [
        f"best move: {values[0, 49]:.3g}",
        "best move: unknown",
        "best move: 0.5",
    ]
    simple_map(np.full((2, 98), bad))
    draw_views([solid(9, 9)], Views(np.zeros((1, 2, 8, 8, 3), np.uint8), np.full((1, 2, 4), bad, np.float32)))


def test_boxes_of_each_size_have_their_panel_and_of_very_many_a_common_one(rng, said):
    simple_map(rng.random((1, 98)))
    simple_map(rng.random((1, 60)), targets=np.stack([random_box(rng, (480, 640)) for _ in range(60)]))
    assert [line for line in said if line.startswith("to boxes")] == [
        "to boxes 0.35 high, 0.35 wide",
        "to boxes 0.55 high, 0.55 wide",
        "to boxes of several sizes",
    ]


@pytest.mark.parametrize("value", [0.0, 0.5, -3.0, 1e-30, 1e30])
def test_a_single_value_has_a_scale_around_it(value, said):
    scale = Scale.of(np.full((2, 3), value))
    assert scale.low < value < scale.high
    simple_map(np.full((1, 98), value))
    assert Scale.of(np.array([[0.1, np.nan, 0.7]])) == (0.1, 0.7)


def test_the_colour_map_brightens_evenly():
    linear = (viridis(np.linspace(0, 1, 101)) / 255) ** 2.2 @ np.array([0.2126, 0.7152, 0.0722])
    steps = np.diff(linear ** (1 / 3))  # lightness, but for its scale
    assert (steps > 0).all()
    assert steps.max() < 4 * steps.mean()


# --- both


@pytest.mark.parametrize("hw", SHAPES)
def test_pictures_of_any_shape(rng, hw):
    picture = rng.integers(0, 256, (*hw, 3), np.uint8)
    for drawn in (draw_views([picture], random_views(rng, 4, hw=hw)), simple_map(rng.random((2, 98)), picture=picture)):
        assert drawn.mode == "RGB"
        assert drawn.width < 1400
        assert drawn.height < 1400


@pytest.mark.parametrize("title", ["", "two\nlines\x00\x1b", "é — 画", "long " * 200, "unbroken" * 100])
def test_titles_of_any_kind_are_whole(title):
    page = np.asarray(simple_map(np.zeros((1, 98)), title=title))
    frame = np.ones(page.shape[:2], bool)
    frame[16:-16, 16:-16] = False
    assert (page[frame] == 255).all()


def test_text_ends_before_its_block_does():
    for string in ("gjpqy|", "WWW", "".join(chr(c) for c in range(33, 127))):
        for size in (12, 13, 20):
            block = np.asarray(page.text(string, size))
            assert (block < 128).any()
            assert (block[:, -1] == 255).all()
            assert (block[-1] == 255).all()
