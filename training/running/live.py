"""`train --watch`: a page beside the run's folder that grows with each epoch, and ends at the run's report.

It loads nothing from a network: the browser reads the file again. It is neither in RUN.partial, which is removed in the
end, nor in RUN, which appears whole.
"""

import os
import sys
import time
import webbrowser
from pathlib import Path
from urllib.parse import quote

from .. import report
from ..errors import WriteError
from ..progress import say
from ..report import ReportContent
from .checkpoint import State

_REFRESH_S = 5
# Drawing takes half a second; short epochs share a picture.
_PAUSE_S = 2.0


class LivePage:
    """The growing report of a run; see `following.Follower`. A full disk in mid-run costs the page, not the run."""

    def __init__(self, run: Path) -> None:
        """`run` is the run's folder, which need not exist yet."""
        self._run = run
        self.path = run.with_name(f"{run.name}.watch.html")
        self._drawn_s = 0.0

    def begin(self, state: State) -> None:
        """Writes the page and opens it in a browser; without one, prints its path.

        Raises:
            WriteError: it cannot be written.
            MissingLibraryError: Matplotlib or Jinja is not installed.
        """
        self._draw(state, "starts", refresh=str(_REFRESH_S))
        opened = _has_screen() and webbrowser.open(self.path.absolute().as_uri())
        say(f"the training curves are {'open' if opened else 'for you to open'} in a browser: {self.path}")

    def follow(self, state: State) -> None:
        """Draws the curves after an epoch, at most every two seconds."""
        if time.monotonic() - self._drawn_s >= _PAUSE_S:
            self._redraw(state, _after(state), refresh=str(_REFRESH_S))

    def finish(self, state: State) -> None:
        """Leads the browser on to the report."""
        page = quote(f"{self._run.name}/{report.PAGE}")
        self._redraw(state, f"is finished; its report is {self._run / report.PAGE}", refresh=f"0; url={page}")

    def stop(self, state: State) -> None:
        """Says that the run was stopped."""
        self._redraw(state, f"{_after(state)}, and then stopped")

    def _redraw(self, state: State, status: str, *, refresh: str = "") -> None:
        try:
            self._draw(state, status, refresh=refresh)
        except WriteError as error:
            say(f"warning: {error}")

    def _draw(self, state: State, status: str, *, refresh: str = "") -> None:
        settings = state.settings
        content = ReportContent(settings.recipe, settings=settings.model_dump(exclude_none=True), history=state.history)
        report.write_live(self.path, content, status=f"The run {status}.", refresh=refresh)
        self._drawn_s = time.monotonic()


def _after(state: State) -> str:
    return f"has finished epoch {state.epochs} of {state.planned}"


def _has_screen() -> bool:
    """Returns whether a browser would have a window: one in a terminal would take it over."""
    named = any(os.environ.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
    return named or sys.platform in ("darwin", "win32")
