"""The console page as a test sees it: what a person, or a screen reader, finds on it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.stack import Stack

MIB: Final = 1 << 20


@dataclass(slots=True)
class Console:
    """One tab with the page, signed in as one subject; ``folder`` takes files and screenshots."""

    stack: Stack
    context: BrowserContext
    page: Page
    token: str
    folder: Path
    complaints: list[str] = field(default_factory=list)

    def open(self) -> "Console":
        """Go to the page with the token in the address, as `dev` prints it."""
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("filechooser", lambda chooser: None)  # from now on choosers are ours: a key press outruns that
        self.page.on("console", lambda message: self._overhear(message.text))
        self.page.goto(f"{self.stack.url}#token={self.token}")
        self.expect_connection("Live")
        return self

    def another_tab(self) -> "Console":
        """The same person in another tab."""
        page = self.context.new_page()
        return Console(self.stack, self.context, page, self.token, self.folder, self.complaints).open()

    def file(self, name: str, size: int, seed: int = 1) -> Path:
        """A file of seeded random bytes."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random.Random(f"{name} {seed}").randbytes(size))
        return path

    def choose(self, files: Path | Sequence[Path]) -> None:
        """Press "Choose files" and pick *files*."""
        with self.page.expect_file_chooser() as chooser:
            self.page.get_by_role("button", name="Choose files").click()
        chooser.value.set_files(files)

    def go_on_with(self, name: str, path: Path) -> None:
        """Give the interrupted task *name* the file at *path*."""
        with self.page.expect_file_chooser() as chooser:
            self.button(name, "Choose the file").click()
        chooser.value.set_files(path)

    def drop(self, name: str, text: str) -> None:
        """Drop a small file on the page, anywhere."""
        self.page.evaluate(
            """([name, text]) => {
                const dataTransfer = new DataTransfer();
                dataTransfer.items.add(new File([text], name));
                document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
            }""",
            [name, text],
        )

    def row(self, name: str) -> Locator:
        """The list's entry of the file *name*."""
        heading = self.page.get_by_role("heading", name=name, exact=True)
        return self.page.locator(".row").filter(has=heading)

    def bar(self, name: str) -> Locator:
        return self.page.get_by_role("progressbar", name=name, exact=True)

    def button(self, name: str, label: str) -> Locator:
        return self.row(name).get_by_role("button", name=label)

    def press(self, name: str, label: str) -> None:
        self.button(name, label).click()

    def expect_state(self, state: str, *names: str, seconds: float = 15) -> None:
        """Wait until the entries *names* say *state*."""
        for name in names:
            expect(self.row(name).locator(".state")).to_have_text(state, timeout=seconds * 1000)

    def expect_trouble(self, name: str, *words: str) -> None:
        for text in words:
            expect(self.row(name).locator(".trouble")).to_contain_text(text, timeout=15_000)

    def expect_connection(self, words: str) -> None:
        expect(self.page.locator("#connection")).to_have_text(words, timeout=10_000)

    def shot(self, name: str, **options: Any) -> None:
        """Keep a picture beside the test's files, for whoever wants to look."""
        self.page.screenshot(path=self.folder / f"{name}.png", **options)

    def _overhear(self, text: str) -> None:
        if "Content Security Policy" in text or "Uncaught" in text:
            self.complaints.append(text)
