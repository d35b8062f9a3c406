"""The composables for Vue under Node, with Vue from npm, against a real node."""

from collections.abc import Awaitable, Callable

import pytest

from tests.browser.node_page import NodePage, rename, url
from tests.gateway.handlers import Handlers
from tests.gateway.node_fixture import NOBODYS, RunningNode

Start = Callable[..., Awaitable[RunningNode]]

BEGIN = """
kept.scope = Vue.effectScope();
kept.greenroom = createGreenroom(Vue, kept.client);
kept.use = (name, ...args) => kept.scope.run(() => kept.greenroom[name](...args));
"""


async def begin(page: NodePage, greenroom: RunningNode, **options: object) -> None:
    await page.connect(url(greenroom), greenroom.token(), **options)
    await page.run(BEGIN)


async def submit(greenroom: RunningNode, kind: str, **fields: object) -> str:
    answer = await greenroom.request("POST", "jobs", {"type": kind, **fields})
    assert answer.status == 202, answer
    job: str = answer.json["id"]
    return job


@pytest.mark.parametrize("of_an_episode", [True, False])
async def test_a_job_is_followed_to_its_end(
    start_greenroom: Start, page: NodePage, of_an_episode: bool
) -> None:
    """
    One of an episode, and one of none: running, then done, with what it brought.
    """
    handlers = Handlers()
    greenroom = await start_greenroom(plugins={"test": handlers})
    episode = {"episode_id": (await greenroom.create())["id"]} if of_an_episode else {}
    await begin(page, greenroom)
    job = await submit(greenroom, "test.wait", **episode)
    await handlers.wait_started(job)
    await page.run("kept.it = kept.use('useJob', argument)", job)
    await page.until("kept.it.job.value?.state === 'running'")
    handlers.gate.set()
    await page.until("kept.it.job.value.state === 'completed'")
    await page.until("kept.it.job.value.result === 'waited'")
    assert await page.run("return kept.it.error.value") is None


async def test_a_job_that_failed_is_retried_by_hand(start_greenroom: Start, page: NodePage) -> None:
    """
    Its error is there, and the retry goes on under the same id; another id begins anew.
    """
    greenroom = await start_greenroom(plugins={"test": Handlers()})
    greenroom.may_log_tracebacks = True  # of the handler that fails
    await begin(page, greenroom)
    job = await submit(greenroom, "test.fail")
    await page.run("kept.id = Vue.ref(argument); kept.it = kept.use('useJob', kept.id)", job)
    await page.until("kept.it.job.value?.state === 'failed'")
    assert "came to nothing" in await page.run("return kept.it.job.value.error")
    await page.run(
        """
        kept.states = [];
        const { job } = kept.it;
        kept.scope.run(() => Vue.watch(job, () => kept.states.push(job.value?.state), { flush: "sync" }));
        await kept.it.retry();
        """
    )
    await page.until("kept.states.includes('running') && kept.states.at(-1) === 'failed'")
    other = await submit(greenroom, "test.echo", payload={"answer": 42})
    await page.run("kept.id.value = argument; await Vue.nextTick()", other)
    await page.until("kept.it.job.value?.result === 42")
    await page.run("kept.id.value = argument", NOBODYS)
    await page.until("kept.it.error.value?.status === 404")


async def test_what_begins_with_a_component_ends_with_it(greenroom: RunningNode, page: NodePage) -> None:
    """
    Nothing is subscribed and nobody present once the scope has stopped.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    await begin(page, greenroom)
    await page.run(
        """
        kept.list = kept.use("useEpisodes", { q: "pilot" });
        kept.it = kept.use("useEpisode", argument);
        kept.presence = kept.use("usePresence", argument);
        kept.inbox = kept.use("useNotifications");
        """,
        episode,
    )
    await page.until("kept.it.episode.value?.title === 'Pilot' && kept.presence.total.value === 1")
    await page.until("kept.list.total.value === 1 && !kept.list.isLoading.value")
    hub = greenroom.node.hub
    [(session,)] = {tuple(hub.metas(topic)) for topic in hub.topics() if hub.metas(topic)}
    assert hub.subscription(f"episode:{episode}", session) is not None
    await page.run("kept.scope.stop(); await kept.client.ping()")
    assert [topic for topic in hub.topics() if hub.subscription(topic, session) or hub.metas(topic)] == []
    await rename(greenroom, episode, "B")
    assert await page.run("return kept.it.episode.value.title") == "Pilot"


async def test_a_list_follows_what_passes_its_filter(greenroom: RunningNode, page: NodePage) -> None:
    """
    In its order; a query that changes is read anew.
    """
    for title in ("Beta", "Alpha"):
        await greenroom.create(title, categories=["Drama"])
    await begin(page, greenroom)
    await page.run(
        """
        kept.query = Vue.reactive({ category: "Drama", sort: "title" });
        kept.list = kept.use("useEpisodes", () => kept.query);
        kept.titles = () => kept.list.episodes.value.map(({ title }) => title).join();
        """
    )
    await page.until("kept.titles() === 'Alpha,Beta'")
    await greenroom.create("Comedy", categories=["Comedy"])
    await greenroom.create("Another", categories=["Drama"])
    await page.until("kept.titles() === 'Alpha,Another,Beta'")
    await page.run("kept.query.category = 'Comedy'")
    await page.until("kept.titles() === 'Comedy' && kept.list.total.value === 1")
    await page.run("kept.query.category = null")
    await page.until("kept.list.error.value === null && kept.titles() === 'Alpha,Another,Beta,Comedy'")


async def test_a_closed_client_is_an_error_that_a_page_can_show(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    No composable throws at its component.
    """
    await begin(page, greenroom)
    await page.run("kept.client.close()")
    errors = await page.run(
        """
        const used = [
          kept.use("useEpisodes"),
          kept.use("useEpisode", "x"),
          kept.use("usePresence", "x"),
          kept.use("useNotifications"),
        ];
        await new Promise((soon) => setTimeout(soon, 10));
        return used.map(({ error }) => error.value?.name);
        """
    )
    assert errors == ["ClosedError"] * 4


async def test_what_could_not_be_read_is_no_error_any_more_when_it_was(
    greenroom: RunningNode, page: NodePage
) -> None:
    """
    An answer that did not come is told until the next one does.
    """
    episode = (await greenroom.create("Pilot"))["id"]
    await begin(page, greenroom)
    await page.run(
        """
        const { fetch } = kept.client;
        kept.client.fetch = async (...given) => {
          if (kept.isAway) throw new TypeError("away");
          return fetch.apply(kept.client, given);
        };
        kept.it = kept.use("useEpisode", argument);
        """,
        episode,
    )
    await page.until("kept.it.episode.value?.version === 1")
    await page.run("kept.isAway = true")
    await rename(greenroom, episode, "B")
    await page.until("kept.it.error.value?.message === 'away'")
    await page.run("kept.isAway = false")
    await rename(greenroom, episode, "C")
    await page.until("kept.it.episode.value.version === 3")
    assert await page.run("return kept.it.error.value") is None
