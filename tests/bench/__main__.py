"""Lets `python -m tests.bench` do what `python tests/bench/run.py` does."""

import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent
# As if run.py was started itself: its neighbours are found beside it.
sys.path.insert(0, str(HERE))
runpy.run_path(str(HERE / "run.py"), run_name="__main__")
