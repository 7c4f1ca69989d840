"""What is said of a scene."""

from abx.data.scenery.layout import MATERIALS, SHAPES, Place, Thing

NUMBERS = ("a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def captions(place: Place, things: list[Thing], outdoors: bool) -> tuple[str, str]:
    """What stands on what; and how many there are, where, which is nearest."""
    kinds: dict[tuple[int, int], int] = {}
    for thing in reversed(things):
        kinds[thing.material, thing.shape] = kinds.get((thing.material, thing.shape), 0) + 1
    most = sorted(kinds.items(), key=lambda kind: -kind[1])[:3]
    parts = [f"{NUMBERS[n - 1]} {MATERIALS[m]} {SHAPES[s][n > 1]}" for (m, s), n in most]
    rest = len(things) - sum(n for _, n in most)
    if rest:
        parts.append("one more thing" if rest == 1 else f"{NUMBERS[rest - 1]} more things")
    listed = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
    back = "hills" if outdoors else f"a {place.surface} wall"
    near = things[-1]
    side = "on the left" if near.x < 0.4 else "on the right" if near.x > 0.6 else "in the middle"
    nearest = f"{MATERIALS[near.material]} {SHAPES[near.shape][0]}"
    return (
        f"{listed} on a {place.surface} floor before {back}",
        f"a {place.name} with {NUMBERS[len(things) - 1]} things, a {nearest} {side} the nearest",
    )
