"""Make the README's pictures of what the tests in here saw: `make pictures`."""

from PIL import Image

from tests.browser.conftest import ROOT, SCREENSHOTS

ASSET = "an_asset_is_materialized_and_shows_what_was_loaded"
PICTURES = {
    "vector_map": f"{ASSET}-map",
    "checks": f"{ASSET}-checks",
    "metadata": f"{ASSET}-metadata",
}


def main() -> None:
    """Shrink each screenshot to some ten kilobytes."""
    for name, screenshot in PICTURES.items():
        with Image.open(SCREENSHOTS / f"{screenshot}.png") as image:
            small = image.convert("RGB").resize((1024, 800), Image.Resampling.LANCZOS)
        # Maximum coverage keeps the few points of colour.
        few = small.quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(ROOT / "docs" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
