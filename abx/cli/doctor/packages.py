"""Python and packages, against what pyproject.toml asks for."""

import re
import tomllib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path
from typing import NamedTuple

import abx
from abx.cli.doctor.findings import Finding

PURPOSES = {
    "fast": "faster decoding of JPEGs, and views with resize fast-bilinear",
    "parquet": "data in parquet files, features as .parquet",
    "probes": "mean average precision of detection",
    "export": "networks as StableHLO",
    "notebooks": "notebooks/",
}
"""Extras, and what is not there without them."""


class Needs(NamedTuple):
    python: str
    """Range of versions: ">=3.11"."""
    packages: tuple[str, ...]
    """Requirements: "grain>=0.2.18,<0.3"."""
    extras: Mapping[str, tuple[str, ...]]


def needs() -> Needs:
    """Of this checkout, or else as it was installed."""
    project = Path(abx.__file__).parent.parent / "pyproject.toml"
    if project.is_file():
        node = tomllib.loads(project.read_text())["project"]
        extras = {name: tuple(each) for name, each in node["optional-dependencies"].items()}
        return Needs(node["requires-python"], tuple(node["dependencies"]), extras)
    try:
        said = requires("annotation-bootstrapping") or []
    except PackageNotFoundError:
        said = []
    by_extra: dict[str, list[str]] = {}
    for line in said:
        requirement, _, condition = line.partition(";")
        extra = re.search(r"extra == ['\"](.*?)['\"]", condition)
        by_extra.setdefault(extra[1] if extra else "", []).append(requirement.strip())
    core = tuple(by_extra.pop("", []))
    return Needs(">=3.11", core, {name: tuple(each) for name, each in by_extra.items()})


def installed() -> dict[str, str]:
    """Version by name of all packages that Python finds, names in lower case with hyphens."""
    # The first that is found is the one that is imported.
    found: dict[str, str] = {}
    for each in distributions():
        if name := each.metadata["Name"]:
            found.setdefault(_normal(name), each.version)
    return found


def check_packages(wanted: Needs, there: Mapping[str, str], python: str) -> list[Finding]:
    """`there`: version by name."""
    what, well = f"Python {python}", fits(python, wanted.python)
    found = [Finding("ok", what) if well else Finding("WRONG", f"{what} is not {wanted.python}", "install another")]
    if not wanted.packages:
        what = "abx is not installed, so what it needs is not known"
        found.append(Finding("note", what, "python -m pip install -e ."))
    bad = {requirement: sentence for requirement in wanted.packages if (sentence := _lacking(requirement, there))}
    # JAX pins its own jaxlib.
    names = [*(_name(requirement) for requirement in wanted.packages if requirement not in bad), "jaxlib"]
    if said := [f"{name} {there[name]}" for name in names if name in there]:
        found.append(Finding("ok", ", ".join(said)))
    found += [Finding("WRONG", sentence, _pip(requirement)) for requirement, sentence in bad.items()]
    for extra, purpose in PURPOSES.items():
        missing = [sentence for each in wanted.extras.get(extra, ()) if (sentence := _lacking(each, there))]
        if missing:
            fix = f"python -m pip install 'annotation-bootstrapping[{extra}]', in a checkout '.[{extra}]'"
            found.append(Finding("note", f"without the extra {extra}: {', '.join(missing)}; it is for {purpose}", fix))
        elif extra in wanted.extras:
            found.append(Finding("ok", f"extra {extra}: {purpose}"))
    return found


def check_ours() -> list[Finding]:
    """Whether what is installed can be imported: a package may be there and broken."""
    try:
        import abx.experiment.run  # noqa: F401  # it takes all that a run takes
    except Exception as wrong:
        line = (str(wrong).splitlines() or [""])[0]
        fix = "install what it names anew: python -m pip install --force-reinstall NAME"
        return [Finding("WRONG", f"abx cannot be imported: {type(wrong).__name__}: {line}", fix)]
    return []


def fits(version: str, wanted: str) -> bool:
    """Whether a version is in a range such as ">=0.2.18,<0.3". What follows the numbers, 1.0rc1, is not looked at."""
    for clause in filter(None, (part.strip() for part in wanted.split(","))):
        operator, number = re.match(r"([<>=!~]*)(.*)", clause).groups()  # type: ignore[union-attr]  # it always matches
        ours, theirs = _numbers(version), _numbers(number)
        length = max(len(ours), len(theirs))
        a, b = (x + (0,) * (length - len(x)) for x in (ours, theirs))
        if not {">=": a >= b, "<=": a <= b, "<": a < b, ">": a > b, "==": a == b, "!=": a != b}[operator]:
            return False
    return True


def _lacking(requirement: str, there: Mapping[str, str]) -> str:
    """What is not as it is required; "" if all is well."""
    name, version = _name(requirement), there.get(_name(requirement))
    wanted = re.sub(r"\[.*?\]", "", requirement)[len(name) :].strip()
    if version is None:
        return f"{name} is missing"
    return "" if fits(version, wanted) else f"{name} {version} is not {wanted}"


def _pip(requirement: str) -> str:
    return f"python -m pip install '{requirement}'"


def _name(requirement: str) -> str:
    return _normal(re.match(r"[\w.-]*", requirement)[0])  # type: ignore[index]  # it always matches


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part)  # type: ignore[index]
