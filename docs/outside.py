"""What the site shows of files outside docs/: a hook of MkDocs, named in mkdocs.yml.

Pages are written to be read as files, too, so their links are paths in the repository: ../benchmarks/README.md,
../abx/boxes.py. On the site each becomes a page of its own.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import dirname, normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.nav import Link, Navigation, Section
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
"""The target of a Markdown link, without its anchor."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds pages: the benchmarks', one for each notebook, one for each file that a page links to."""
    texts = {f"docs/{file.src_uri}": file.content_string for file in files if file.src_uri.endswith(".md")}
    texts["benchmarks/README.md"] = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "benchmarks.md", content=texts["benchmarks/README.md"]))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = from_notebook(path.read_text(encoding="utf-8"))
        texts[f"notebooks/{path.name}"] = text
        files.append(File.generated(config, site_path(f"notebooks/{path.name}"), content=text))
    for path in sorted({path for origin, text in texts.items() for _, path in inside(origin, text)}):
        uri = site_path(path)
        if uri.startswith("source/") and uri not in files.src_uris:
            files.append(File.generated(config, uri, content=from_source(path), inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links to files into links to their pages."""
    origin = origin_of(page.file.src_uri)
    here = dirname(page.file.src_uri)
    moved = {link: relpath(site_path(path), here or ".") for link, path in inside(origin, markdown)}
    return LINK.sub(lambda found: moved.get(found[0], found[0]), markdown)


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Every method has a line of its own under the page that has them all."""
    headings = re.findall(r"^## (.+)", (ROOT / "docs" / "methods.md").read_text(encoding="utf-8"), re.M)
    for section in nav.items:
        for i, item in enumerate(section.children or []):
            if isinstance(item, Page) and item.file.src_uri == "methods.md":
                links: list[Any] = [Link(name, f"methods.html#{anchor(name)}") for name in headings]
                section.children[i] = Section("Methods", [item, *links])
    return nav


def anchor(heading: str) -> str:
    """As Markdown's table of contents makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def site_path(path: str) -> str:
    """Where the site has a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path in ("README.md", "benchmarks/README.md"):
        return {"README.md": "index.md"}.get(path, "benchmarks.md")
    if path.endswith(".ipynb"):
        return str(PurePosixPath(path).with_suffix(".md"))
    return f"source/{path}.md"


def origin_of(uri: str) -> str:
    """Which file of the repository a page is made of."""
    if uri == "benchmarks.md":
        return "benchmarks/README.md"
    return str(PurePosixPath(uri).with_suffix(".ipynb")) if uri.startswith("notebooks/") else f"docs/{uri}"


def inside(origin: str, markdown: str) -> Iterator[tuple[str, str]]:
    """Links of a page to files of the repository: as written, and from its root."""
    for link in LINK.findall(markdown):
        path = normpath(f"{dirname(origin)}/{link}")
        if ":" not in link and (ROOT / path).is_file():  # no address, and no picture that is its own data
            yield link, path


def from_source(path: str) -> str:
    """A page with a file on it."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return f"# {path}\n\n````{PurePosixPath(path).suffix.removeprefix('.')}\n{text}\n````\n"


def from_notebook(text: str) -> str:
    """A page with the cells of a notebook and what came out of them when it was kept. Nothing is run."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"````python\n{source}\n````")
        parts += map(_shown, cell.get("outputs", []))
    return "\n\n".join(parts) + "\n"


def _shown(output: dict[str, Any]) -> str:
    found = output.get("data", {"text/plain": output.get("text", "")})
    if "image/png" in found:
        return f"![What the cell shows](data:image/png;base64,{''.join(found['image/png']).strip()})"
    return f"````text\n{''.join(found['text/plain']).rstrip()}\n````"
