"""What tests of jobs do from outside: submit, wait for the end, look at the history."""

import psycopg

from tests.gateway.node_fixture import until_answer


async def submit(node, kind, payload=None, **fields):
    answer = await node.request("POST", "jobs", {"type": kind, "payload": payload or {}, **fields})
    assert answer.status == 202, answer
    assert answer.headers["location"] == f"/api/v1/jobs/{answer.json['id']}"
    return answer.json["id"]


async def ended(node, job):
    answer = await until_answer(
        lambda: node.request("GET", f"jobs/{job}"),
        lambda answer: answer.json["state"] in ("completed", "failed", "cancelled"),
    )
    return answer.json


def make_table(node):
    with psycopg.connect(node.conninfo) as connection:
        connection.execute("create table written (job uuid, attempt int)")


def history(job):
    return [frame["event"] for frame in job["history"]]
