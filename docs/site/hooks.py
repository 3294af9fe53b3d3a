"""What mkdocs is told about this repository: pages outside of docs/, and links that leave docs/."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]

PAGES = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "examples/simple_app/README.md": "examples/simple-app.md",
    "examples/multi_app/README.md": "examples/multi-app.md",
    "examples/node_app/README.md": "examples/node-app.md",
    "README.md": "index.md",
}
"""Where the site has a page of the repository. Its landing page stands where the README does."""

_CODE_OR_LINK = re.compile(
    r"^(?P<fence> *```).*?^(?P=fence)"
    r"|\[(?P<text>(?:`[^`]*`|[^\]`])+)\]\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)"
    r"|`[^`\n]+`",
    re.DOTALL | re.MULTILINE,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside of docs/."""
    for source, place in PAGES.items():
        if source != "README.md":
            text = (ROOT / source).read_text(encoding="utf-8")
            files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links out of docs/ to the page that the site has of it, else to the repository.

    Where nobody has said what that is (``SITE_REPOSITORY``), the text of the link is left.

    Raises
    ------
    mkdocs.exceptions.PluginError
        If there is no such file.
    """
    place = page.file.src_uri
    source = next((path for path, one in PAGES.items() if one == place), f"docs/{place}")
    if place == "index.md":
        source = "docs/index.md"

    def replaced(link: re.Match[str]) -> str:
        target = link["target"]
        if target is None:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        anchor = link["anchor"] or ""
        if not (ROOT / path).exists():
            raise PluginError(f"{source}: there is no {target}")
        inside = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else "")
        if inside and files.get_file_from_path(inside) is not None:
            relative = posixpath.relpath(inside, posixpath.dirname(place) or ".")
            return f"[{link['text']}]({relative}{anchor})"
        if config.repo_url:
            return f"[{link['text']}]({config.repo_url.rstrip('/')}/blob/HEAD/{path}{anchor})"
        return str(link["text"])

    return _CODE_OR_LINK.sub(replaced, markdown)
