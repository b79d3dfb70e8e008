"""Hooks of mkdocs: files from the root of the repository, and no requests to other servers.

Links are written so that they work where the files are read in the repository. Here those that
lead to a page or a card at the root, which the website has beside the others, lose one step up.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT_PAGES = ("CHANGELOG", "CODE_OF_CONDUCT", "CONTRIBUTING", "ROADMAP", "SECURITY")
_TO_ROOT = re.compile(rf"\]\(\.\./((?:\.\./)*(?:(?:{'|'.join(ROOT_PAGES)})\.md|cards/))")
_FROM_ROOT = re.compile(r"\]\(docs/")
_CARD_PICTURE = re.compile(r"\]\((?:\.\./)+(cards/[\w./-]+\.webp)\)")
# Attributes by which a browser loads something without being asked.
_LOADING = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    root = Path(config.config_file_path).parent
    for name in ROOT_PAGES:
        content = _FROM_ROOT.sub("](", (root / f"{name}.md").read_text(encoding="utf-8"))
        files.append(File.generated(config, f"{name}.md", content=content))
    pages = [page.content_string for page in files.documentation_pages()]
    for name in sorted({name for page in pages for name in _CARD_PICTURE.findall(page)}):
        files.append(File.generated(config, name, abs_src_path=str(root / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return _TO_ROOT.sub(r"](\1", markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    if found := external_resources(output):
        raise PluginError(f"{page.file.src_path} would load {', '.join(found)} from elsewhere.")
    return output


def external_resources(html: str) -> list[str]:
    """Addresses on other servers that a browser would fetch to show the page."""
    parser = _Resources()
    parser.feed(html)
    return parser.found


class _Resources(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = _LOADING.get(tag)
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            name = "href"
        address = given.get(name) if name else None
        if address and re.match(r"(https?:)?//", address):
            self.found.append(address)
