"""The WebSocket protocol itself, by the Autobahn project's cases as `kosoku` runs them."""

import json
import sysconfig
from pathlib import Path

import trio

from tests.patience import patience, undisturbed

# Cases 9 measure speed, 12 and 13 compression, which is not negotiated.
LEFT_OUT = ("9.*", "12.*", "13.*")
# What the suite calls a pass: the last of them says how a peer chose where it may choose.
PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
LONG = 120


async def test_no_case_of_the_conformance_suite_fails(start, logs, tmp_path):
    """
    Framing, fragments, control frames, UTF-8 and closing are as RFC 6455 wants them.
    """
    served = await start(max_message=20_000_000)
    kosoku = Path(sysconfig.get_path("scripts"), "kosoku")
    command = [str(kosoku), f"ws://127.0.0.1:{served.port}/echo", "-p", "16"]
    for case in LEFT_OUT:
        command += ["-x", case]

    async def run_cases():
        with patience(LONG):
            run = await trio.run_process([*command, "-o", str(tmp_path)], capture_stdout=True, check=False)
        (cases,) = json.loads((tmp_path / "index.json").read_text()).values()
        failed = {
            case: result
            for case, result in cases.items()
            if result["behavior"] not in PASSED or result["behaviorClose"] not in PASSED
        }
        assert failed == {}
        assert run.returncode == 0, run.stdout
        assert len(cases) > 200

    # The suite gives each answer a second.
    await undisturbed(run_cases)
    await served.assert_unharmed()
    assert logs.tracebacks() == []
