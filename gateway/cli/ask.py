"""One REST request to a running node, for the commands of operators. Knows no route."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import click

from gateway.cli.live import Line, plain

# Seconds that a node may take to answer.
PATIENCE = 10.0


class RefusedError(click.ClickException):
    """
    The node answered, and refused; its text says why. The command ends with 1.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        lines = [str(problem.get("detail") or problem.get("title") or f"HTTP {status}")]
        lines += [f"{error['field']}: {error['message']}" for error in problem.get("errors", ())]
        super().__init__("\n".join(map(plain, lines)))
        self.status = status


def ask(line: Line, method: str, path: str, body: object = None) -> Any:
    """
    The JSON that the node answers. Raises RefusedError, and ClickException when there is no node.
    """
    address = urlsplit(line.url)
    kind = http.client.HTTPSConnection if address.scheme in ("https", "wss") else http.client.HTTPConnection
    connection = kind(address.hostname or "", address.port, timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {line.make_token()}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"no node answers on {line.url}: {error}") from None
    finally:
        connection.close()
    try:
        answer = json.loads(text) if text else {}
    except ValueError:
        raise click.ClickException(f"{line.url} is no Greenroom: it answers {text[:40]!r}") from None
    if response.status >= http.client.BAD_REQUEST:
        raise RefusedError(response.status, answer)
    return answer
