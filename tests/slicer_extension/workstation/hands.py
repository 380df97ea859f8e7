"""A person's hands in the workstation's page: keys and the mouse at voxels, and what is seen in the views' pixels."""

from __future__ import annotations

from typing import Any

LONG = 60_000  # ms
PLACE = """([view, column, row]) => {
  const surface = document.querySelector(`[data-view=${view}] .surface`);
  const box = surface.getBoundingClientRect(), canvas = surface.querySelector("canvas");
  const [x, y] = fedsca.views[view].place([column, row]);
  return [box.left + (x / canvas.width) * box.width, box.top + (y / canvas.height) * box.height];
}"""
# Labels are the only colour in a picture of grey values. JPEG's rounding stays far below 24.
COLOURED = """(view) => {
  const canvas = document.querySelector(`[data-view=${view}] canvas.picture`);
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let count = 0;
  for (let n = 0; n < pixels.length; n += 4) count += Math.abs(pixels[n] - pixels[n + 2]) > 24;
  return count;
}"""


class Hands:
    """Works in the view "Red", perpendicular to k."""

    view = "Red"

    def __init__(self, page: Any) -> None:
        self.page = page

    def wait(self, condition: str, argument: Any = None, timeout: float = LONG) -> None:
        """Until a JavaScript condition holds."""
        self.page.wait_for_function(condition, arg=argument, timeout=timeout)

    def open(self, case: str) -> None:
        """Choose a case from the list, also the one that is open."""
        before = self.image()
        self.list_cases()
        self.page.click(f"[data-case='{case}']")
        self.wait("(name) => document.querySelector('.case h2').innerText === name", case)
        self.wait_for_new_image(before)

    def image(self) -> str:
        """Of which opened image the view shows a slice, empty before the first."""
        return str(self.page.evaluate("fedsca.views.Red.meta.image ?? ''"))

    def wait_for_new_image(self, before: str) -> None:
        """Until the view shows a slice of another opened image than `before`: the panel's title changes earlier than the views."""
        self.wait("(before) => fedsca.views.Red.meta.axis === 'k' && fedsca.views.Red.meta.image !== before", before)

    def list_cases(self) -> None:
        """Show the list of cases. It is there from the start where no case is open."""
        if self.page.query_selector(".worklist") is None:
            self.page.click("[data-do=cases]")

    def go_to(self, index: int) -> None:
        """Scroll to a slice with the arrow keys."""
        now = int(self.page.get_attribute(f"[data-view={self.view}]", "data-index"))
        for _ in range(abs(index - now)):
            self.page.keyboard.press("ArrowUp" if index > now else "ArrowDown")
        self.wait("(n) => document.querySelector('[data-view=Red]').dataset.index === String(n)", index)

    def tool(self, key: str, name: str) -> None:
        """Take a tool with its key."""
        self.page.keyboard.press(key)
        self.page.wait_for_selector(f"[data-tool={name}].pressed")

    def at(self, column: float, row: float) -> tuple[float, float]:
        """Where a pixel of the slice is on the screen."""
        x, y = self.page.evaluate(PLACE, [self.view, float(column), float(row)])
        return x, y

    def click(self, column: float, row: float, **options: Any) -> None:
        self.page.mouse.click(*self.at(column, row), **options)

    def drag(self, *pixels: tuple[float, float]) -> None:
        """Press at the first pixel of the slice, move over the others, let go at the last."""
        places = [self.at(*pixel) for pixel in pixels]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=6)
        self.page.mouse.up()

    def coloured(self) -> int:
        """How many pixels of the view's picture show a label."""
        return int(self.page.evaluate(COLOURED, self.view))

    def wait_for_colour(self, test: str, timeout: float = LONG) -> int:
        """Until the number n of coloured pixels fulfils a condition such as `n > 100`."""
        self.wait(f"(view) => {{ const n = ({COLOURED})(view); return {test}; }}", self.view, timeout)
        self.wait("() => fedsca.views.Red.meta.exact")  # it rests: nothing more is coming
        return self.coloured()

    def notice(self, part: str, timeout: float = 1.5 * LONG) -> str:
        """Wait for a notice that holds a text."""
        try:
            self.wait("(part) => document.querySelector('[data-notice]')?.innerText.includes(part)", part, timeout)
        except Exception as error:
            raise AssertionError(
                f"No notice with {part!r}, but: {self.page.inner_text('.toasts')!r}; {self.page.inner_text('.server')!r}"
            ) from error
        return str(self.page.inner_text("[data-notice] span"))

    def dismiss_notice(self) -> None:
        """Close the notice that is shown, so that the next one is not taken for it: two of them may say the same."""
        self.page.click("[data-notice] [data-do=dismiss]")
        self.wait("() => document.querySelector('[data-notice]') === null")

    def fact(self, name: str) -> str:
        return str(self.page.inner_text(f"[data-fact={name}]"))
