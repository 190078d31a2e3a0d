"""A section of a page that a program writes between two markers; people write the rest."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from alignstream.models.errors import AlignstreamError
from alignstream.models.files import replace_file


@dataclasses.dataclass(frozen=True)
class MarkedSection:
    """The place of a program's lines in a page.

    Parameters
    ----------
    heading : str
        Put above the section where a page has neither it nor the markers.
    begin, end : str
        The markers: comments, each in a line of its own.
    """

    heading: str
    begin: str
    end: str

    def written(self, page: str, lines: Sequence[str]) -> str:
        """Return a page with lines between its markers; where it has none, they are put at its end.

        Raises
        ------
        AlignstreamError
            The page has one of the markers alone, or several.

        Examples
        --------
        >>> section = MarkedSection("## Figures", "<!-- begin -->", "<!-- end -->")
        >>> page = section.written("# Page", ["new"])
        >>> section.written(page, ["newer"]).splitlines()[2:]
        ['## Figures', '', '<!-- begin -->', '', 'newer', '', '<!-- end -->']
        """
        counts = page.count(self.begin), page.count(self.end)
        section = "\n".join((self.begin, "", *lines, "", self.end))
        if counts == (0, 0):
            heading = "" if self.heading in page else f"{self.heading}\n\n"
            return f"{page.rstrip()}\n\n{heading}{section}\n".lstrip()
        before, begin, rest = page.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if counts != (1, 1) or not begin or not end:
            raise AlignstreamError(
                f"the page must hold {self.begin!r} and, after it, {self.end!r}, once each; mend it, or delete both"
            )
        return f"{before}{section}{after}"

    def write(self, path: Path, lines: Sequence[str], *, is_trial: bool = False) -> None:
        """Write lines into a page, created if missing; on trial only report what would go wrong.

        Raises
        ------
        AlignstreamError
            The page cannot be read or written, or its markers are not as they should be.
        """
        try:
            page = self.written(path.read_text(encoding="utf-8") if path.exists() else "", lines)
            if not is_trial:
                replace_file(path, page.encode())
        except (OSError, UnicodeDecodeError) as error:
            raise AlignstreamError(f"cannot write the figures into {path}: {error}") from error
