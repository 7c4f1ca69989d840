"""What only the package itself knows. Not to be imported where it cannot be."""

from collections.abc import Mapping
from pathlib import Path

from abx.cli.doctor.findings import Finding, within
from abx.data.decoding import Rates, measure, pictures
from abx.data.sources import SpecError, cache_home
from abx.hosts import announced

PICTURES, SECONDS = 16, 0.7
"""How many are decoded again and again, and how long with one core and with all."""
ANSWER = 20.0
"""Seconds that data have to be opened in."""


def cache() -> Path:
    return Path(cache_home())


def check_launcher(environ: Mapping[str, str]) -> Finding:
    if announced(environ):
        return Finding("note", "a launcher has announced several processes: a recipe waits for all of them")
    return Finding("ok", "one process: no launcher has announced more")


def check_decoding(spec: str, cores: int, fast: bool) -> list[Finding]:
    """Args:
    fast: whether simplejpeg is there.
    """
    try:
        files = within(ANSWER, lambda: pictures(spec, PICTURES))
    except SpecError as wrong:
        return [Finding("WRONG", str(wrong), "abx data inspect SPEC says more")]
    if files is None:
        fix = f"abx data index '{spec}' once, or see whether the disk answers"
        return [Finding("WRONG", f"--data: {spec} could not be opened in {ANSWER:.0f} s", fix)]
    if not files:
        return [
            Finding("WRONG", f"--data: none of the first pictures of {spec} can be read", f"abx data inspect '{spec}'")
        ]
    return [say_rates(measure(files, SECONDS, cores), spec, fast)]


def say_rates(found: Rates, spec: str, fast: bool) -> Finding:
    many = f", {found.all:,.0f} with {found.threads}" if found.threads > 1 else ""
    size = f"{found.height:.0f} x {found.width:.0f} pixels and {found.size / 1000:.0f} kB on average"
    what = (
        f"{found.one:,.0f} pictures decoded a second with one core{many} ({'simplejpeg' if fast else 'Pillow'}; "
        f"{found.pictures} of {spec or 'the built-in scenes, as JPEGs'}, {size})"
    )
    if fast:
        return Finding("ok", what)
    return Finding("note", what, "simplejpeg decodes faster: python -m pip install 'annotation-bootstrapping[fast]'")
