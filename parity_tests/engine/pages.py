"""What tests of HTML pages share: hostile text, and a page's tags, text and links."""

import re
from html.parser import HTMLParser

HOSTILE = '<script>alert(1)</script>"\'&$x_\ud800'
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')


class Page(HTMLParser):
    """The tags of a page with their attributes, its text, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ('meta', 'br'):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}

    def words(self) -> str:
        return ' '.join(' '.join(self.text).split())

    def links(self) -> list[str]:
        return [
            value or '' for _, attrs in self.tags for key, value in attrs.items() if key in ('src', 'href')
        ]


def external(page: Page) -> list[str]:
    """What a browser would fetch from elsewhere, and what could run."""
    remote = [link for link in page.links() if not re.fullmatch(r'[\w.#-]+', link)]
    handlers = [key for _, attrs in page.tags for key in attrs if key.startswith('on')]
    return (
        remote
        + handlers
        + [tag for tag in page.names() if tag in ('script', 'link', 'iframe', 'img', 'object')]
    )
