"""The poller on a real queue: each message is committed once, then deleted; what is not committed is not."""

import attrs
import trio

from engine.domain.envelope import decode, encode
from engine.errors import StoreUnavailableError
from tests.contract.post_office import message, post_office
from tests.patience import undisturbed


async def test_messages_are_committed_and_then_deleted(queue_service):
    """
    More than one request can bring, and nothing is left behind.
    """
    async with post_office(queue_service) as office:
        await office.send(*(message(f"m{number}") for number in range(25)))
        await office.start()
        await office.until_empty()
        assert sorted(office.clerk.applied) == sorted(f"m{number}" for number in range(25))
        statistics = office.poller.statistics()
        assert (statistics.received, statistics.applied, statistics.deleted) == (25, 25, 25)
        assert (statistics.held, statistics.failures, statistics.refused) == (0, 0, 0)
        assert statistics.last_successful_poll_age is not None


async def test_nothing_is_deleted_before_it_is_committed(queue_service):
    """
    While the database is away messages are held; when it is back they are committed, once.
    """
    async with post_office(queue_service) as office:
        office.clerk.trouble = StoreUnavailableError("away")
        await office.send(message("m1"), message("m2"))
        await office.start()
        await office.until(lambda: office.clerk.seen.count("m1") >= 3)
        assert office.proxy.count("DeleteMessageBatch") == 0
        office.clerk.trouble = None
        await office.until_empty()
        assert sorted(office.clerk.applied) == ["m1", "m2"]


async def test_the_trace_of_a_message_is_its_own_or_what_its_sender_s_library_attached(queue_service):
    """
    What is no traceparent is ignored there, and the message is reduced all the same.
    """
    mine, theirs = ("00-" + digit * 32 + "-b7ad6b7169203331-01" for digit in "ab")
    async with post_office(queue_service) as office:

        def post(id_, attached, own=None):
            body = attrs.evolve(decode(message(id_)), traceparent=own)
            attributes = {"traceparent": {"DataType": "String", "StringValue": attached}}
            office.queue.client.send_message(
                QueueUrl=office.queue.url, MessageBody=encode(body), MessageAttributes=attributes
            )

        for given in (("m1", theirs), ("m2", theirs, mine), ("m3", "nonsense")):
            await trio.to_thread.run_sync(post, *given)
        await office.send(message("m4"))
        await office.start()
        await office.until_empty()
        assert office.clerk.traces == {"m1": theirs, "m2": mine, "m3": None, "m4": None}


async def test_no_more_messages_are_held_than_allowed(queue_service):
    """
    The rest stays in the queue, for other nodes.
    """
    async with post_office(queue_service, in_flight=12) as office:
        office.clerk.open = trio.Event()
        await office.send(*(message(f"m{number}") for number in range(20)))
        await office.start()
        await office.until(lambda: office.poller.statistics().held == 12)
        polls = office.proxy.count("ReceiveMessage")
        assert await trio.to_thread.run_sync(office.queue.counts) == (8, 12)
        office.clerk.open.set()
        await office.until_empty()
        assert office.proxy.count("ReceiveMessage") > polls
        assert len(office.clerk.applied) == 20


async def test_what_is_held_for_long_stays_hidden_from_others(queue_service):
    """
    A commit that takes many times the visibility timeout is not delivered again.
    """

    async def hold():
        async with post_office(queue_service, visibility_timeout=2.0) as office:
            office.clerk.open = trio.Event()
            await office.send(message("m1"))
            await office.start()
            await office.until(lambda: office.proxy.count("ChangeMessageVisibilityBatch") >= 5)
            office.clerk.open.set()
            await office.until_empty()
            assert office.clerk.seen == ["m1"]
            assert office.poller.statistics().redelivered == 0

    await undisturbed(hold)


async def test_a_poller_that_stops_gives_back_what_nothing_was_decided_about(queue_service):
    """
    Others see it at once, not after the visibility timeout, which is half a minute here.
    """
    async with post_office(queue_service) as office:
        office.clerk.open = trio.Event()
        await office.send(*(message(f"m{number}") for number in range(12)))
        await office.start()
        await office.until(lambda: office.poller.statistics().held == 12)
        await office.stop()
        assert await trio.to_thread.run_sync(office.queue.counts) == (12, 0)
        assert office.poller.statistics().given_back == 12
        assert office.clerk.applied == []


async def test_a_message_that_comes_while_the_poller_stops_is_given_back(queue_service):
    """
    The poll that was under way is waited for: what it brought would be hidden from everybody otherwise.
    """
    async with post_office(queue_service, wait=5.0) as office:
        await office.start()
        await office.send(message("first"))
        await office.until(lambda: office.clerk.applied)
        await office.until_empty()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(office.stop)
            await trio.testing.wait_all_tasks_blocked(0.1)
            await office.send(message("late"))
        assert office.clerk.applied == ["first"]
        assert office.poller.statistics().given_back == 1
        assert await trio.to_thread.run_sync(office.queue.counts) == (1, 0)


async def test_what_is_put_off_is_reduced_again_in_a_moment(queue_service):
    """
    It is neither deleted nor given back meanwhile, and others are not held up.
    """
    async with post_office(queue_service) as office:
        office.clerk.later = {"slow": 3}
        await office.send(message("slow"), message("m1"), message("m2"))
        await office.start()
        await office.until_empty()
        assert office.clerk.applied[-1] == "slow"
        assert sorted(office.clerk.applied) == ["m1", "m2", "slow"]
        assert office.clerk.seen.count("slow") == 4
        assert office.poller.statistics().redelivered == 0


async def test_a_poller_that_is_paused_asks_for_nothing(queue_service):
    """
    And goes on where it was when it is resumed.
    """
    async with post_office(queue_service) as office:
        office.paused = True
        await office.send(message("m1"))
        await office.start()
        await office.until(lambda: office.poller.statistics().paused)
        await trio.testing.wait_all_tasks_blocked(0.3)
        assert office.proxy.count("ReceiveMessage") == 0
        office.paused = False
        await office.until_empty()
        assert office.clerk.applied == ["m1"]


async def test_what_cannot_be_applied_ends_among_the_dead_letters_and_is_counted(queue_service):
    """
    By the queue's own redrive, after as many deliveries as it allows; others are not held up by it.
    """
    async with post_office(queue_service, max_receives=3, visibility_timeout=1.0) as office:
        office.clerk.poison = {"bug"}
        bad = ["no JSON", '{"v": 2}', '{"v": 1, "type": "job.lunch"}', "[]", message("bug")]
        await office.send(message("before"), *bad, message("after"))
        await office.start()
        await office.until(lambda: office.poller.statistics().dead_lettered == len(bad))
        await office.until_empty()
        assert await trio.to_thread.run_sync(office.queue.dead_letters) == len(bad)
        assert sorted(office.clerk.applied) == ["after", "before"]
        assert office.poller.statistics().refused == 3 * len(bad)


async def test_a_group_of_a_fifo_queue_is_applied_in_its_order(queue_service):
    """
    Even when the first attempts to commit fail, and what nobody can read stands in between.
    """
    async with post_office(queue_service, fifo=True, max_receives=2, visibility_timeout=1.0) as office:
        office.clerk.trouble = StoreUnavailableError("away")
        for number in range(8):
            await office.send(message(f"a{number}"), group="a")
            await office.send(message(f"b{number}"), group="b")
        await office.send("garbage", message("a8"), group="a")
        await office.start()
        await office.until(lambda: len(office.clerk.seen) >= 20)
        office.clerk.trouble = None
        await office.until_empty()
        assert [each for each in office.clerk.applied if each[0] == "a"] == [f"a{n}" for n in range(9)]
        assert [each for each in office.clerk.applied if each[0] == "b"] == [f"b{n}" for n in range(8)]
        assert await trio.to_thread.run_sync(office.queue.dead_letters) == 1
