"""How many files a node may have open."""

import json
import resource
import subprocess
import sys

import pytest

from gateway.cli.open_files import OTHERS

SCRIPT = """
import json, os, resource, sys
from gateway.cli.open_files import make_room
soft, hard, sessions = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
before = len(os.listdir("/dev/fd"))
room = make_room(sessions)
left = len(os.listdir("/dev/fd")) - before
print(json.dumps([room, *resource.getrlimit(resource.RLIMIT_NOFILE), left]))
"""


LOOK = """
import resource, sys
from conf.settings import load
from gateway.cli.checks.machine import of_machine
soft, hard, sessions = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
loaded = load(None, environ={}, overrides={"limits.sessions": sessions})
[finding] = [each for each in of_machine(loaded, None) if each.what == "file descriptors"]
print(finding.grade.name, finding.text, finding.remedy)
"""


@pytest.mark.parametrize(
    ("soft", "hard", "sessions", "room", "then"),
    [
        (256, 4096, 1000, 1000 + OTHERS, 1000 + OTHERS),
        (3000, 4096, 1000, 1000 + OTHERS, 3000),
        (256, 1500, 1000, 1500, 1500),
    ],
    ids=["too low", "high enough", "cannot be raised as far"],
)
def test_a_node_may_open_as_many_files_as_its_sessions_need(soft, hard, sessions, room, then):
    """
    Most systems allow 1,024, and would turn away the thousandth session. What was opened for it is closed.
    """
    done = run(SCRIPT, soft, hard, sessions)
    assert json.loads(done.splitlines()[-1]) == [room, then, hard, 0]
    assert ("too few open files" in done) == (room < sessions + OTHERS)


@pytest.mark.parametrize(
    ("hard", "grade"), [(1000 + OTHERS, "OK"), (1500, "WRONG")], ids=["enough", "too few, however raised"]
)
def test_the_doctor_judges_the_limit_that_a_node_raises_its_own_to(hard, grade):
    """
    Not the 1,024 or so that a process begins with: it found a node wrong that has room for all sessions.
    """
    told = run(LOOK, 256, hard, 1000)
    assert told.startswith(grade)
    assert str(1000 + OTHERS) in told


def run(script, soft, hard, sessions):
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed != resource.RLIM_INFINITY and allowed < hard:
        pytest.skip("this machine allows fewer")
    given = [sys.executable, "-c", script, str(soft), str(hard), str(sessions)]
    return subprocess.run(given, capture_output=True, text=True, check=True).stdout
