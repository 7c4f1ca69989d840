"""The runs, as a list: which of the paper's rows each stands for, and what it is made of. No sizes; see `budgets`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from abx.analysis import paper
from benchmarks.replicate.row import CC12M, COCO, EPIC, IMAGENET, Comparison, Mixed, Place, Row, Sweep
from benchmarks.replicate.tried import TRIED, tries

RECIPES = {
    "mae": "MAE",
    "ijepa": "I-JEPA",
    "simclr": "SimCLR",
    "dino": "DINO",
    "clip": "CLIP",
    "clip_aug": "CLIP+Aug",
    "slip": "SLIP",
    "silc": "SiLC",
    "ab_simclr": "AB_SimCLR",
    "ab_dino": "AB_DINO",
    "ab_clip": "AB_CLIP",
}
"""Recipes, and what the paper calls their systems."""


ALONE = ("mae", "ijepa", "simclr", "ab_simclr", "dino", "ab_dino")
TOLD = ("clip", "slip", "silc", "ab_clip")


def _group(name: str, recipes: Sequence[str], data: Mixed, places: Sequence[Place], **more: object) -> list[Row]:
    """Rows of systems that learn from the same data."""
    rows = []
    for recipe in recipes:
        value = data if recipe.startswith("ab_") else ()
        rows.append(Row(f"{name}/{recipe}", recipe, data, value, places=tuple(places), system=RECIPES[recipe]))
    return [row._replace(**more) for row in rows]


COCO_ALONE, EPIC_ALONE = Place(3, "COCO"), Place(3, "Epic-Kitchens")
TABLES = [
    *_group("imagenet", ALONE, IMAGENET, (Place(1, "ImageNet, no labels"), Place(6, "ImageNet, no labels"))),
    *_group("cc12m", ALONE, CC12M, (Place(2, "CC12M, no captions"),)),
    *_group("cc12m-captions", ("clip", "clip_aug", "slip", "silc", "ab_clip"), CC12M,
            (Place(2, "CC12M with captions"),), texts="captions"),
    *_group("coco", ALONE, COCO, (COCO_ALONE,)),
    *_group("coco-rewards-imagenet", ("ab_simclr", "ab_dino"), COCO, (Place(3, "COCO, rewards from ImageNet"),),
            reward=IMAGENET),
    *_group("epic", ALONE, EPIC, (EPIC_ALONE,)),
    *_group("epic-rewards-imagenet", ("ab_simclr", "ab_dino"), EPIC,
            (Place(3, "Epic-Kitchens, rewards from ImageNet"),), reward=IMAGENET),
    *_group("coco-captions", TOLD, COCO, (Place(4, "COCO with captions"),), texts="captions"),
    *_group("coco-boxes", TOLD, COCO, (Place(4, "COCO with box descriptions"),), texts="boxes"),
]  # fmt: skip

_ABLATED = {
    "augmented": (paper.AUGMENTED, ("--method.augment-value",)),
    "no-actions": (paper.BLIND, ("--method.no-actions",)),
    "no-propagation": (paper.UNPROPAGATED, ("--method.value-weight", "0")),
    "no-target": (paper.UNLAGGED, ("--ema.tau", "1")),
    "no-annotation": (paper.UNREWARDED, ("--method.reward-weight", "0")),
}
_TABLE5 = Row("", "ab_simclr", CC12M, CC12M, places=(Place(5, "ablations, CC12M, no captions"),), share=0.5)
ABLATIONS = [
    _TABLE5._replace(name="ablations/whole", system="AB_SimCLR"),
    *(
        _TABLE5._replace(name=f"ablations/{name}", system=paper.ablated("AB_SimCLR", said), flags=flags)
        for name, (said, flags) in _ABLATED.items()
    ),
]

CONTROLLED = {"simclr": "imagenet/ab_simclr", "dino": "imagenet/ab_dino", "clip": "cc12m-captions/ab_clip"}
"""Bases, and the rows of AB that are controlled. At equal views the base is in the tables."""
GAMMAS = (0.0, 0.25, 0.75, 0.9)
"""Beside the preset's 0.5."""


RATES = (0.5, 2.0)
"""Of the preset's learning rate, for the bases: whether theirs is one that AB gains nothing but by."""


def _controls() -> list[Row]:
    rows, by_name = [], {row.name: row for row in TABLES}
    for base, name in CONTROLLED.items():
        ab = by_name[name]._replace(places=(), system="", kinds=("classification",))
        plain = ab._replace(recipe=base, value=(), like=name)
        rows += [
            plain._replace(name=f"controls/{base}-equal-flops", length="flops"),
            plain._replace(name=f"controls/{base}-reward-half", length="reward"),
            ab._replace(name=f"controls/ab_{base}-no-actions", flags=("--method.no-actions",)),
            ab._replace(name=f"controls/ab_{base}-oracle", flags=("--method.oracle",)),
            *(
                plain._replace(name=f"controls/{base}-lr-{factor:g}", like="", scaled=(("optim.lr", factor),))
                for factor in RATES
            ),
        ]
        if base != "clip":  # whose discounts are Figure 5
            rows += [
                ab._replace(name=f"controls/ab_{base}-gamma-{gamma:g}", flags=("--method.gamma", f"{gamma:g}"))
                for gamma in (0.0, 0.9)
            ]
    return rows


CONTROLS = _controls()

SHARES = (0.25, 0.5, 0.75)
OVERLAPS = (-5.0, 0.0, 6.0, 15.0)
WIDTHS = {"half": 0.5, "more": 1.5}
"""Of the preset's backbone: Figure 4 left at toy size. MLPs grow with it; depth, decoder and text tower stay."""
_POINT = Row("", "", (), kinds=("classification",))


def _figure3() -> list[Row]:
    rows = []
    for name, kinds in (("coco", ("classification", "objects", "detection")), ("epic", ("classification", "action"))):
        other = COCO if name == "coco" else EPIC
        for share in SHARES:
            mixed = ((share, "imagenet"), (1 - share, other[0][1]))
            rows.append(
                _POINT._replace(name=f"figure3/{name}-dino-{share:g}", recipe="dino", reward=mixed, kinds=kinds)
            )
    kinds = ("classification", "objects", "detection", "action")
    return [*rows, _POINT._replace(name="figure3/dino-1", recipe="dino", reward=IMAGENET, kinds=kinds)]


def _figure4() -> list[Row]:
    rows = []
    for size, factor in WIDTHS.items():
        for recipe, tower in (("clip", "method.backbone"), ("ab_clip", "method.base.backbone")):
            scaled = ((f"{tower}.width", factor), (f"{tower}.mlp", factor))
            value = CC12M if recipe == "ab_clip" else ()
            rows.append(
                Row(f"figure4-left/{recipe}-{size}", recipe, CC12M, value, "captions",
                    scaled=scaled, kinds=("classification",))
            )  # fmt: skip
    for overlap in OVERLAPS:
        near = ("--data.views.overlap", f"{overlap:g}")
        two = ("--data.value-views.n", "2", "--data.value-views.overlap", f"{overlap:g}")
        point = _POINT._replace(reward=CC12M, share=0.5)
        rows += [
            point._replace(name=f"figure4-middle/dino{overlap:+g}", recipe="dino", flags=near),
            point._replace(name=f"figure4-middle/ab_dino{overlap:+g}", recipe="ab_dino", value=CC12M, flags=two,
                           scaled=(("data.value-batch", 2.0),)),
        ]  # fmt: skip
    return rows


FIGURE5 = [
    Row(f"figure5/gamma-{gamma:g}", "ab_clip", CC12M, CC12M, "captions",
        flags=("--method.gamma", f"{gamma:g}"), kinds=("classification",))
    for gamma in GAMMAS
]  # fmt: skip
ROWS = tuple([*TABLES, *ABLATIONS, *CONTROLS, *_figure3(), *_figure4(), *FIGURE5, *TRIED])
BY_NAME = {row.name: row for row in ROWS}


def comparisons() -> list[Comparison]:
    """Every difference that is reported: those of the tables, then those with controls."""
    found = []
    for row in ROWS:
        for place in row.places[:1]:
            [told] = [each for each in place.block.rows if each.system == row.system]
            for other in ROWS:
                if told.base and place in other.places and other.system == told.base:
                    found.append(Comparison(row.name, other.name, f"{row.system} over {told.base}"))
    for group in ("coco", "epic"):
        for recipe in ("ab_simclr", "ab_dino"):
            says = f"{RECIPES[recipe]}: rewards from ImageNet over rewards from the same data"
            found.append(Comparison(f"{group}-rewards-imagenet/{recipe}", f"{group}/{recipe}", says))
    for base, name in CONTROLLED.items():
        ab = RECIPES[f"ab_{base}"]
        found += [
            Comparison(name, f"controls/{base}-equal-flops", f"{ab} over {RECIPES[base]} at equal FLOPs"),
            Comparison(name, f"controls/{base}-reward-half", f"{ab} over {RECIPES[base]} on its reward images alone"),
            Comparison(name, f"controls/ab_{base}-no-actions", f"{ab} over the same without action tokens"),
            Comparison(name, f"controls/ab_{base}-oracle", f"{ab} over the same with targets of an oracle"),
        ]
        plain = f"{name.split('/')[0]}/{base}"
        found += [
            Comparison(f"controls/{base}-lr-{factor:g}", plain, f"{RECIPES[base]}: learning rate x {factor:g} over x 1")
            for factor in RATES
        ]
        gammas = [f"controls/ab_{base}-gamma-{gamma:g}" for gamma in (0.0, 0.9)]
        if base == "clip":
            gammas = [f"figure5/gamma-{gamma:g}" for gamma in (0.0, 0.9)]
        found += [
            Comparison(name, other, f"{ab} (gamma 0.5) over gamma {other.rpartition('-')[2]}") for other in gammas
        ]
    return [*found, *tries()]


def sweeps() -> list[Sweep]:
    """The figures that several rows make."""
    mixtures = []
    for name, y in (("coco", "COCO detect AP50"), ("epic", "EK action")):
        ends = ((None, f"{name}/dino"), *((None, f"figure3/{name}-dino-{share:g}") for share in SHARES))
        lines = (
            ("DINO on mixtures", (*ends, (None, "figure3/dino-1"))),
            ("AB_DINO, rewards from ImageNet", ((None, f"{name}-rewards-imagenet/ab_dino"),)),
        )
        mixtures.append(Sweep("3", f"Figure 3: mixtures of ImageNet and {name}", "ImageNet, decoder", y, lines))
    sizes, near = [], []
    for recipe in ("clip", "ab_clip"):
        others = [(factor, f"figure4-left/{recipe}-{size}") for size, factor in WIDTHS.items()]
        sizes.append((RECIPES[recipe], tuple(sorted([*others, (1.0, f"cc12m-captions/{recipe}")]))))
    for recipe in ("dino", "ab_dino"):
        near.append((RECIPES[recipe], tuple((o, f"figure4-middle/{recipe}{o:+g}") for o in OVERLAPS)))
    gammas = tuple(sorted([(g, f"figure5/gamma-{g:g}") for g in GAMMAS] + [(0.5, "cc12m-captions/ab_clip")]))
    return [
        *mixtures,
        Sweep("4left", "Figure 4 left: width of the backbone", "width, of the preset's", "ImageNet", tuple(sizes)),
        Sweep("4middle", "Figure 4 middle: overlap of crops", "overlap", "ImageNet", tuple(near)),
        Sweep("5", "Figure 5: discount", "gamma", "ImageNet", (("AB_CLIP", gammas),)),
    ]


def matching(globs: Sequence[str]) -> tuple[list[Row], list[str]]:
    """The rows whose names fit any of the patterns, in the order of the list, and patterns that fit none."""

    def fits(row: Row, glob: str) -> bool:
        group = row.name.split("/")[0]
        return fnmatchcase(row.name, glob) and (not row.named or glob.startswith(group))

    rows = [row for row in ROWS if any(fits(row, glob) for glob in globs)]
    return rows, [glob for glob in globs if not any(fits(row, glob) for row in ROWS)]
