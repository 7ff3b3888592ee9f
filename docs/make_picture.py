"""Save the README's pictures: the real UI on a simulated farm, converted to PNG by Chromium.

Needs Debian's chromium and fonts-firacode.
"""

import asyncio
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from farmhand_tui import up
from farmhand_tui.app import FarmApp

PICTURES = Path(__file__).parent / "pictures"
SIMULATION = up.Simulation(cards=192, seed=7, faults="some")
SIZE = (140, 36)


async def save(farm: up.Farm, directory: Path) -> None:
    """Save the farm grid and a card as SVG."""
    app = FarmApp(farm.url, farm.running.token)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(3)
        await pilot.press("n")
        await pilot.pause(1)
        app.save_screenshot("farm.svg", str(directory))
        await pilot.press("enter")
        await pilot.pause(2)
        await pilot.press("1")
        await pilot.pause(2)
        app.save_screenshot("card.svg", str(directory))


def convert(svg: Path, png: Path) -> None:
    """Draw an SVG at its own size."""
    viewed = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg.read_text(encoding="utf-8"))
    assert viewed is not None
    width, height = (math.ceil(float(size)) for size in viewed.groups())
    page = svg.with_suffix(".html")
    page.write_text(f'<body style="margin:0"><img src="{svg.name}" width="{width}">')
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    options += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    options += [f"--window-size={width},{height}", f"--user-data-dir={svg.parent / 'chromium'}"]
    command = ["chromium", *options, f"--screenshot={png}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def main() -> int:
    """Save the pictures as PNG."""
    PICTURES.mkdir(exist_ok=True)
    with up.farm(SIMULATION) as farm, tempfile.TemporaryDirectory() as name:
        up.wait_for(farm, farm.has_state, 120)
        asyncio.run(save(farm, Path(name)))
        for picture in ("farm", "card"):
            svg, png = Path(name) / f"{picture}.svg", PICTURES / f"{picture}.png"
            convert(svg, png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
