"""Variants of AB over SimCLR: what was tried where its sign is not the paper's. Run by name, not with all rows."""

from benchmarks.replicate.row import IMAGENET, Comparison, Row

AB, BASE = "imagenet/ab_simclr", "imagenet/simclr"
_ROW = Row("", "", IMAGENET, kinds=("classification",), beside=("linear", "map"), named=True)
_AB = _ROW._replace(recipe="ab_simclr", value=IMAGENET)
VARIANTS = {
    "annotations": ("twice the annotations L", _AB._replace(scaled=(("data.reward-batch", 2.0),))),
    "bias": ("b = -ln L in place of the first batch's", _AB._replace(flags=("--method.value-bias", "auto"))),
    "weight-3": ("value weight 3", _AB._replace(flags=("--method.value-weight", "3"))),
    "weight-10": ("value weight 10", _AB._replace(flags=("--method.value-weight", "10"))),
    "no-warmup": ("gamma from the first step on", _AB._replace(flags=("--method.gamma-warmup", "0"))),
    "rate": ("twice the learning rate", _AB._replace(scaled=(("optim.lr", 2.0),))),
    "larger-crops": (
        "value crops of 0.2 to 1 of the area",
        _AB._replace(flags=("--data.value-views.scale", "0.2", "1")),
    ),
}
"""Variants of AB at the views of all; their base is the one of Table 1."""
LONGER = 4.0
TRIED = (
    *(row._replace(name=f"tried/{name}") for name, (_, row) in VARIANTS.items()),
    *(
        row._replace(name=f"tried/longer-{recipe}", share=LONGER, recipe=recipe)
        for recipe, row in (("simclr", _ROW), ("ab_simclr", _AB))
    ),
)


def tries() -> list[Comparison]:
    """Each over its base, beside what the paper has of AB over SimCLR."""
    found = [
        Comparison(f"tried/{name}", BASE, f"AB_SimCLR, {says}, over SimCLR", (AB, BASE))
        for name, (says, _) in VARIANTS.items()
    ]
    says = f"AB_SimCLR over SimCLR, both {LONGER:g} times as long"
    return [*found, Comparison("tried/longer-ab_simclr", "tried/longer-simclr", says, (AB, BASE))]
