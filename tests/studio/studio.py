"""HiDream Studio as a visitor uses it: by what is written on the page."""

from playwright.sync_api import Locator, Page, expect

#: What a visitor of a busy machine waits for a picture at most, in milliseconds.
PICTURE_MS = 120_000

_LABELS = {
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance",
    "num_images_per_prompt": "Pictures",
    "seed": "Seed",
    "negative_prompt": "What to keep out",
}


class Studio:
    """The page, and what is done with it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    @property
    def prompt(self) -> Locator:
        return self.page.get_by_label("Prompt", exact=True)

    def view(self, name: str) -> None:
        """Go to one of the views by the top of the page."""
        self.page.get_by_role("navigation").get_by_role("link", name=name).click()

    def give_key(self, key: str) -> None:
        """Answer the page that asks for a key; it begins again with it."""
        self.page.get_by_label("API key", exact=True).fill(key)
        self.page.keyboard.press("Enter")
        expect(self.page.get_by_role("dialog")).to_have_count(0)

    def fill(self, prompt: str, shape: str = "Small", **fields: object) -> None:
        """Fill in the form."""
        self.prompt.fill(prompt)
        self.page.get_by_text(shape, exact=True).click()
        for name, value in fields.items():
            self.page.get_by_label(_LABELS[name], exact=True).fill(str(value))

    def make(self, prompt: str, shape: str = "Small", **fields: object) -> Locator:
        """Ask for pictures; return the card of the task."""
        self.fill(prompt, shape, **fields)
        self.page.get_by_role("button", name="Make").click()
        card = self.card(prompt)
        expect(card).to_be_visible()
        return card

    def card(self, prompt: str) -> Locator:
        """The latest task with this prompt."""
        return self.page.get_by_role("article").filter(has_text=prompt).first

    def finished(self, prompt: str) -> Locator:
        """Wait until a card has its picture; return that."""
        picture = self.card(prompt).get_by_role("link").get_by_role("img").first
        expect(picture).to_be_visible(timeout=PICTURE_MS)
        return picture

    def tiles(self) -> Locator:
        """The pictures in the gallery."""
        return self.page.get_by_role("list").get_by_role("link")

    def search(self, words: str) -> None:
        self.page.get_by_label("Search in prompts").fill(words)

    def large(self) -> Locator:
        """The picture that is shown large."""
        return self.page.get_by_role("dialog")


def task_of(card: Locator) -> str:
    """Return the id of the task that a card is about."""
    task_id = card.get_attribute("data-task")
    if task_id is None:
        raise LookupError("The card names no task.")
    return task_id


def width(picture: Locator) -> int:
    """Wait until a picture was fetched; return its width in its own pixels."""
    return int(picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)"))
