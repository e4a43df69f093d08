"""Make nbs/images/app.webp, the page as nbs/guide_commands.ipynb shows it: python tools/make_screenshot.py

Needs Chromium, and the extras app, birdnet and dev.
"""
import io, shutil, sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from auditus.app import SoundAnalyzer, serve

root = Path(__file__).resolve().parents[1]
width, height = 1000, 1330  # of the browser's window; as much of the page as says what it is


def main():
    browser = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    if not browser: sys.exit('there is no Chromium to take the picture with: apt-get install chromium')
    served = serve(SoundAnalyzer('birdnet', root/'test_files'))
    try:
        with sync_playwright() as p:
            page = p.chromium.launch(executable_path=browser, args=['--no-sandbox']).new_page(viewport={'width': width, 'height': height})
            page.goto(served.local_url)
            page.set_input_files('#sound input[type=file]', root/'test_files'/'long.ogg')
            page.wait_for_selector('#look img')
            page.get_by_role('button', name='Classify').click()
            page.get_by_text('Siren_Siren').first.wait_for()
            page.wait_for_timeout(1000)  # until pictures have found their places
            picture = Image.open(io.BytesIO(page.screenshot()))
    finally: served.close()
    picture.save(root/'nbs'/'images'/'app.webp', quality=70)


if __name__ == '__main__': main()
