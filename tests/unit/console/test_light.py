"""What serves brings no solver with it, and the console's own page stays small."""

import hashlib
import subprocess
import sys
from importlib.resources import files

STATIC = files("secondsource.console").joinpath("static")
# Apache ECharts 6.1.0, `dist/echarts.esm.min.mjs` of its npm package, byte for byte.
ECHARTS_SHA256 = "28515f26aa57f87eb1e4ed4eb446927eaf329b5f5e02b4bfd4b0264fea40d1da"
OWN_LIMIT = 300_000


def test_a_process_that_serves_loads_no_solver() -> None:
    code = (
        "import sys; import secondsource.gateway.service, secondsource.console.application; "
        "print([name for name in ('numpy', 'highspy', 'jax', 'secondsource.planner.solve') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_pages_own_files_are_under_300_kb() -> None:
    own = [file for file in STATIC.iterdir() if not file.name.startswith("echarts.")]
    assert len(own) > 8
    assert sum(len(file.read_bytes()) for file in own) < OWN_LIMIT


def test_the_chart_library_is_the_one_that_was_published_with_its_licence() -> None:
    assert hashlib.sha256(STATIC.joinpath("echarts.min.js").read_bytes()).hexdigest() == ECHARTS_SHA256
    assert "Apache License" in STATIC.joinpath("echarts.LICENSE").read_text()
    assert "Apache Software Foundation" in STATIC.joinpath("echarts.NOTICE").read_text()


def test_the_page_asks_nobody_else_for_anything() -> None:
    for file in STATIC.iterdir():
        if file.name.endswith((".html", ".css")) or (file.name.endswith(".js") and "echarts" not in file.name):
            text = file.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in text, file.name
            assert "https://" not in text, file.name
