"""Draw docs/explorer.png: the explorer in a browser. Run it from the checkout."""

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FILE = Path("examples/late_parcel.jsonl")
server = subprocess.Popen(
    [sys.executable, "-m", "explorer", "--port", "0"], stdout=subprocess.PIPE, text=True
)
try:
    address = server.stdout.readline().split()[0] if server.stdout else ""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="light")
        page.goto(address)
        page.get_by_role("textbox", name="Transcript Lines").fill(FILE.read_text(encoding="utf-8"))
        page.get_by_role("button", name="Read the pasted text").click()
        page.locator("mark").first.wait_for()
        page.wait_for_timeout(1000)  # for what the page moves softly
        page.screenshot(path="docs/explorer.png")
finally:
    server.terminate()
    server.wait()
