"""One source of numbers: what `/metrics`, `/engine/tree` and `top` show is the same."""

import io
import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from gateway.cli.top import render, shown
from tests.gateway.handlers import Handlers
from tests.gateway.node_fixture import until

ROOT = Path(__file__).parents[2]
OPERATOR = {"role": "operator"}
# They move from one request to the next.
MOVING = re.compile(
    r"greenroom_(requests_total|job_poll_age|connections|loop_lag|mailbox_oldest|frames_per_second|pool_in_use)"
)


async def read(node):
    """
    The tree, and the samples of `/metrics` by name and labels.
    """
    tree = (await node.request("GET", "engine/tree", **OPERATOR)).json
    text = (await node.request("GET", "/metrics", token="")).body.decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return tree, samples


def drawn(tree):
    """
    What `top` prints.
    """
    file = io.StringIO()
    Console(file=file, width=250).print(render(tree))
    return file.getvalue()


async def busy(node):
    """
    A node on which something has happened.
    """
    episode = await node.create()
    await node.subscriber(f"episode:{episode['id']}")
    for title in ("Two", "Three"):
        await node.request("PATCH", f"episodes/{episode['id']}", {"title": title})
    await node.effects()
    return episode


async def test_the_tree_and_the_metrics_are_the_same_numbers(greenroom):
    """
    Sample by sample; but for those that a request itself moves, and histograms' buckets.
    """
    await busy(greenroom)
    tree, samples = await read(greenroom)
    steady = {name: value for name, value in samples.items() if not MOVING.match(name)}
    expected = {name: value for name, value in steady.items() if "_bucket" not in name}
    assert {name: value for name, value in tree["numbers"].items() if not MOVING.match(name)} == expected
    assert set(tree["numbers"]) <= set(samples)
    assert tree["numbers"]["greenroom_deliveries_total"] == tree["hub"]["deliveries_total"] > 0
    assert tree["numbers"]['greenroom_pool_size{pool="requests"}'] == tree["pools"]["requests"]["size"]


async def test_every_number_that_top_draws_is_one_of_the_tree(greenroom):
    """
    The cells of each table are the samples that their row and column say, and nothing else is a number.
    """
    await busy(greenroom)
    tree, _ = await read(greenroom)
    # Each number is made one that nothing else can be: what is drawn must have come from there.
    marked = {name: 1000 + number for number, name in enumerate(tree["numbers"])}
    text = drawn({**tree, "numbers": marked, "node": "n"})
    names = {value: name for name, value in marked.items()}
    found = [int(number) for number in re.findall(r"\b\d+\b", text)]
    strangers = [number for number in found if number not in names and number != 0]
    assert strangers == []
    assert "greenroom_sessions" in {names[number] for number in found if number in names}
    for line in text.splitlines():
        if line.startswith("audit "):
            cells = [names[int(number)] for number in re.findall(r"\b\d+\b", line)]
            assert cells == [
                f'greenroom_{name}{{plugin="audit"}}'
                for name in ("effect_lag_events", "effects_total", "effect_failures_total")
            ]


async def test_commits_are_timed_until_they_are_on_screens(greenroom):
    """
    Once for each event that anybody listens to, however many topics carry it.
    """
    await greenroom.create("Nobody listens")
    episode = await greenroom.create()
    viewer = await greenroom.subscriber(f"episode:{episode['id']}")
    await greenroom.connect("carol@example.com")
    for title in ("Two", "Three"):
        await greenroom.request("PATCH", f"episodes/{episode['id']}", {"title": title})
    assert [message["event"] for message in await viewer.pending()] == ["episode_updated"] * 2
    _, samples = await read(greenroom)
    assert samples["greenroom_commit_to_frame_seconds_count"] == 2
    assert 0 < samples["greenroom_commit_to_frame_seconds_sum"] < 20


async def test_closes_and_answers_are_counted_by_code(greenroom):
    """
    As the client saw them.
    """
    bad = await greenroom.connect()
    await bad.send_text("no JSON")
    _, code = await bad.bye()
    assert code == 4400
    await greenroom.request("GET", "episodes/nonsense")
    await until(lambda: greenroom.application.traffic.closes[4400] == 1)
    _, samples = await read(greenroom)
    assert samples['greenroom_websocket_closes_total{code="4400"}'] == 1
    assert samples['greenroom_requests_total{status="400"}'] == 1
    assert samples["greenroom_websockets"] == 0


async def test_restarts_are_counted_also_of_those_that_are_gone(greenroom):
    """
    A counter never goes back.
    """
    greenroom.may_log_tracebacks = True
    episode = await greenroom.create()
    viewer = await greenroom.subscriber(f"episode:{episode['id']}")
    greenroom.node.crash_episodes()
    await until(lambda: greenroom.node.episode_supervisor.restarted["episode"] == 1)
    await viewer.pending()
    await greenroom.node.episode_supervisor.stop_child(f"episode/{episode['id']}")
    _, samples = await read(greenroom)
    assert samples['greenroom_restarts_total{kind="episode"}'] == 1
    assert samples['greenroom_crashes_total{kind="episode"}'] == 1


async def test_jobs_are_counted_by_what_became_of_them(start_greenroom):
    """
    Attempts begun and ended, how long they waited and ran, what has not ended; and `top` shows them.
    """
    node = await start_greenroom(plugins={"test": Handlers()})
    body = {"type": "test.echo", "payload": {"answer": 42}}
    assert (await node.request("POST", "jobs", body)).status == 202
    await until(lambda: node.node.workshop.statistics.of("test.echo").completed == 1)
    tree, samples = await read(node)
    assert samples['greenroom_jobs_started_total{type="test.echo"}'] == 1
    assert samples['greenroom_jobs_ended_total{outcome="completed",type="test.echo"}'] == 1
    assert samples['greenroom_jobs_running{type="test.echo"}'] == 0
    assert samples['greenroom_job_seconds_count{type="test.echo"}'] == 1
    assert samples['greenroom_job_wait_seconds_count{type="test.echo"}'] == 1
    assert 0 < samples['greenroom_job_wait_seconds_sum{type="test.echo"}'] < 60
    assert samples["greenroom_job_poll_age_seconds"] < 60
    assert re.search(r'jobs_started_total\{type="test.echo"\} +1\b', drawn(tree))


async def test_the_dashboard_names_only_metrics_that_exist(greenroom):
    """
    A metric that was renamed would leave a panel empty.
    """
    await busy(greenroom)
    dashboard = (ROOT / "docs/grafana.json").read_text("utf-8")
    used = set(re.findall(r"greenroom_\w+", " ".join(_expressions(json.loads(dashboard)))))
    text = (await greenroom.request("GET", "/metrics", token="")).body.decode()
    there = set(re.findall(r"^# TYPE (greenroom_\w+)", text, re.MULTILINE))
    # Only where a queue of SQS is read.
    there |= {"greenroom_sqs_poll_age_seconds", "greenroom_sqs_messages_total"}
    known = {name for metric in there for name in (metric, f"{metric}_bucket")}
    assert used - known == set()


def _expressions(dashboard):
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield target["expr"]


def test_numbers_are_shown_without_digits_that_say_nothing():
    """
    Whole numbers whole, others to four digits.
    """
    assert [shown(value) for value in (0, 3.0, 0.12345, 12345.678, 1e6)] == [
        "0", "3", "0.1235", "1.235e+04", "1000000",
    ]  # fmt: skip
