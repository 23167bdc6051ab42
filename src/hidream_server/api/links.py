"""Addresses of pictures for whoever asked, signed where it takes a key to open them."""

from dataclasses import dataclass

from hidream_server.api.formats import Format
from hidream_server.api.keyring import LinkSigner


@dataclass(frozen=True, slots=True)
class Links:
    """Makes links that this caller may open."""

    #: The server's address as the caller uses it, with no slash at the end.
    base: str
    #: None where everything is open.
    signer: LinkSigner | None = None

    def picture(self, name: str, form: Format = Format.PNG, compression: int | None = None) -> str:
        """Return the address of a picture, as a file of that format."""
        link = self._link(f"/images/{name.removesuffix('.png')}.{form}")
        if compression is None:
            return link
        return f"{link}{'&' if '?' in link else '?'}compression={compression}"

    def preview(self, task_id: str, image_index: int) -> str:
        return self._link(f"/preview/{task_id}?image_index={image_index}")

    def _link(self, path: str) -> str:
        if self.signer is None:
            return self.base + path
        query = self.signer.query(signed_part(path))
        return f"{self.base}{path}{'&' if '?' in path else '?'}{query}"


def signed_part(path: str) -> str:
    """Return what of a picture's address is signed: not the format, which is at its end."""
    return path if "?" in path else path.rpartition(".")[0] or path
