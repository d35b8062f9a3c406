"""What is deployed fits the program: the unit, the image, the proxy, and the settings that they name."""

import configparser
import re
from pathlib import Path

import pytest

from conf.options import OPTIONS
from conf.settings import load
from conf.sources import variable
from conf.units import read_duration
from gateway.app import REAL_TIME, SOCKET_IO, STREAM
from gateway.cli.main import COMMANDS
from gateway.cli.serve import serve

ROOT = Path(__file__).parents[2]
NGINX = (ROOT / "docs/deploy/nginx.conf").read_text("utf-8")
CONTAINER = (ROOT / "docs/deploy/Containerfile").read_text("utf-8")
DEPLOYMENT = (ROOT / "docs/deployment.md").read_text("utf-8")
SETTINGS = load(None, environ={}).settings


@pytest.fixture
def unit():
    """
    The unit's sections.
    """
    parser = configparser.RawConfigParser(strict=False, delimiters="=", comment_prefixes="#")
    parser.optionxform = str
    parser.read(ROOT / "docs/deploy/greenroom.service", "utf-8")
    return parser


def location(path):
    """
    The block of one location.
    """
    return re.search(rf"location =? ?{re.escape(path)} \{{(.*?)\n    \}}", NGINX, re.DOTALL)[1]


def test_the_unit_is_told_by_the_node_when_it_is_ready_and_alive(unit):
    """
    And reloads by the signal that the node takes.
    """
    service = unit["Service"]
    assert (service["Type"], service["ExecReload"]) == ("notify", "/bin/kill -HUP $MAINPID")
    assert int(service["WatchdogSec"]) > 0
    assert service["RestartPreventExitStatus"] == "2"
    command = service["ExecStart"].split()
    assert command[1] in COMMANDS
    assert {word for word in command if word.startswith("--")} <= {
        name for option in serve.params for name in option.opts
    }


def test_the_unit_waits_longer_than_a_drain_takes(unit):
    """
    Or systemd would kill a database amid its last checkpoint.
    """
    drain = SETTINGS.node.shutdown_grace + SETTINGS.supervision.database.grace
    assert int(unit["Service"]["TimeoutStopSec"]) > drain
    assert int(unit["Service"]["LimitNOFILE"]) > SETTINGS.limits.sessions


def test_every_variable_that_is_named_is_an_option():
    """
    In the unit, the image and the page.
    """
    known = {variable(option) for option in OPTIONS}
    texts = (CONTAINER, DEPLOYMENT, (ROOT / "docs/deploy/greenroom.service").read_text("utf-8"))
    named = {name for text in texts for name in re.findall(r"\bGREENROOM_[A-Z_]+\b", text)}
    assert named - {"GREENROOM_PORT"} <= known


def test_the_proxy_s_times_fit_the_node_s():
    """
    Pings come before the proxy cuts; the proxy closes idle connections before the node does.
    """
    for path in (REAL_TIME, SOCKET_IO, STREAM):
        block = location(path)
        timeout = read_duration(re.search(r"proxy_read_timeout (\w+);", block)[1])
        assert timeout > SETTINGS.realtime.ping_interval + SETTINGS.realtime.ping_timeout
        assert "proxy_buffering off;" in block
    upstream = re.search(r"keepalive_timeout (\w+);", NGINX)[1]
    assert read_duration(upstream) < SETTINGS.server.keep_alive
    assert "client_max_body_size 1m;" in NGINX
    assert SETTINGS.server.max_body == 1024 * 1024


def test_no_location_of_the_proxy_loses_the_client_s_address():
    """
    A location with a header of its own would inherit none: not even X-Forwarded-For.
    """
    blocks = re.findall(r"location [^{]*\{(.*?)\n    \}", NGINX, re.DOTALL)
    assert len(blocks) >= 6
    assert not any("proxy_set_header" in block for block in blocks)
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in NGINX


def test_the_image_has_a_python_that_will_do():
    """
    And runs as nobody in particular.
    """
    versions = re.findall(r"python:3\.(\d+)-", CONTAINER)
    assert len(versions) == 2
    assert all(int(minor) >= 11 for minor in versions)
    assert "USER greenroom" in CONTAINER
