"""The reducer on a real database: what messages say is committed once, whatever else is in the batch."""

import uuid
from random import Random

import attrs
import pytest

from engine.actors.job_desk import JobDesk
from engine.actors.reducer import JobReducer
from engine.actors.reports import Reports
from engine.domain import job as jobs
from engine.domain.envelope import Completed, Envelope, Failed, Progressed, Report, Started, Submit
from engine.domain.event import JobId, utc_now
from engine.domain.fields import FieldError
from engine.domain.job import JobState
from engine.hookspecs import JobHandler, hookimpl
from engine.plugin_host.host import PluginHost
from tests.contract.crew import Crew, new_job
from tests.contract.studio import PATIENCE

EXTERNAL = "test.elsewhere"


def _check(payload):
    if "bug" in payload:
        raise ZeroDivisionError("a bug of the plugin's")
    if "file" in payload:
        yield FieldError("file", "is not there")


class Plugin:
    """
    Runs one type of jobs here.
    """

    @hookimpl
    def job_handlers(self):
        return [
            JobHandler(
                type="test.noop",
                run=lambda context: None,
                max_attempts=7,
                check=_check,
                unique=lambda payload: payload.get("key"),
            )
        ]


@pytest.fixture
def crew(store):
    """
    Who looks at the jobs.
    """
    return Crew(store)


@pytest.fixture
def heard():
    """
    The events that were told, in order.
    """
    return []


@pytest.fixture
def due():
    """
    The seconds in which jobs were said to be due.
    """
    return []


@pytest.fixture
def reduce(store, heard, due):
    """
    A reducer that runs one type itself and knows another that is run elsewhere.
    """
    plugins = PluginHost(decision_budget=PATIENCE)
    plugins.register(Plugin(), "test")
    desk = JobDesk(
        jobs=store.jobs,
        job_list=store.job_list,
        plugins=plugins,
        external_types=(EXTERNAL,),
        committed=heard.append,
        due=due.append,
        wished=lambda wish, author: None,
    )
    told = {"jobs": store.jobs, "job_list": store.job_list, "committed": heard.append, "due": due.append}
    reports = Reports(handlers=plugins.jobs.by_name(), lease=60.0, chance=Random(7), **told)
    return JobReducer(check=desk.check, reports=reports, **told)


def submission(id_=None, *, job_id=None, subject=None, **data):
    """
    A message that asks for a job.
    """
    body = Submit(job_id=job_id, data={"type": "test.noop", **data})
    return Envelope(id=id_ or str(uuid.uuid4()), source="studio", time=utc_now(), subject=subject, body=body)


def report(job, fence, seq, outcome):
    """
    A message of an external worker.
    """
    body = Report(job_id=job, fence=fence, seq=seq, outcome=outcome)
    return Envelope(id=str(uuid.uuid4()), source="transcoder", time=utc_now(), body=body)


def outcomes(verdicts):
    """
    The verdicts without their reasons.
    """
    return [verdict.outcome for verdict in verdicts]


async def test_submissions_become_jobs_by_one_statement_and_whoever_runs_them_is_woken(
    reduce, crew, heard, due
):
    """
    With the handler's defaults, the sender as the submitter, and the message as where it came from.
    """
    verdicts = await reduce([submission(f"m{number}", payload={"n": number}) for number in range(20)])
    assert outcomes(verdicts) == ["applied"] * 20
    assert due == [0.0] * 20
    assert [event.type for event in heard] == ["job_queued"] * 20
    job = await crew.get(JobId(heard[3].data["job"]["id"]))
    assert (job.payload, job.max_attempts, job.source, job.submitted_by) == ({"n": 3}, 7, "sqs", "studio")
    assert job.request.mutation_id == "m3"


async def test_a_message_that_comes_again_is_the_same_job(reduce, crew, heard):
    """
    In the same batch, in a later one, and after the job has ended.
    """
    twice = submission("m1")
    assert outcomes(await reduce([twice, twice])) == ["applied", "unchanged"]
    assert outcomes(await reduce([twice, submission("m2")])) == ["unchanged", "applied"]
    assert len(await crew.log()) == 2
    job = await crew.claim_one()
    assert outcomes(await reduce([twice])) == ["unchanged"]
    assert (await crew.get(job.id)).state is JobState.RUNNING


async def test_the_sender_may_choose_the_job_s_id(reduce, crew):
    """
    And knows then whose reports it is to send.
    """
    chosen = str(uuid.uuid4())
    assert outcomes(await reduce([submission(job_id=chosen), submission(job_id=chosen)])) == [
        "applied",
        "unchanged",
    ]
    assert (await crew.get(JobId(chosen))).type == "test.noop"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (submission(type="test.unknown"), "data.type must be one of test.elsewhere, test.noop"),
        (submission(type="Test"), "data.type must be lower case words"),
        (submission(priority=99), "data.priority must be an integer from 0 to 9"),
        (submission(colour="red"), "data.colour is not known here"),
        (submission(payload={"file": "x"}), "data.payload.file is not there"),
        (submission(payload={"bug": True}), "plugin test could not decide: ZeroDivisionError"),
        (submission(episode_id=str(uuid.uuid4())), "there is no episode"),
        (submission(subject="catalog"), "subject must be episode:<id>"),
        (submission(subject="episode:17"), "data.episode_id must be a UUID"),
        (submission(subject=f"episode:{uuid.uuid4()}", episode_id=str(uuid.uuid4())), "subject must be"),
        (report(str(uuid.uuid4()), 1, 0, Started()), "there is no job"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_the_reason_and_the_rest_is_done(reduce, message, reason):
    """
    One bad message costs its batch nothing.
    """
    verdicts = await reduce([submission(), message, submission()])
    assert outcomes(verdicts) == ["applied", "refused", "applied"]
    assert reason in verdicts[1].reason


async def test_a_job_of_an_episode_is_in_the_episode_s_log(reduce, crew, studio):
    """
    Whether the subject names the episode, or the data.
    """
    created = await studio.create()
    episode = created.topic.removeprefix("episode:")
    verdicts = await reduce([submission(subject=created.topic), submission(episode_id=episode)])
    assert outcomes(verdicts) == ["applied", "applied"]
    assert [event.type for event in await crew.log(episode)] == ["episode_created", *["job_queued"] * 2]


async def test_a_second_job_of_a_unique_key_is_not_queued(reduce, crew):
    """
    As long as the first has not ended, its wish is as good as done.
    """
    verdicts = await reduce([submission(payload={"key": "a"}), submission(payload={"key": "a"})])
    assert outcomes(verdicts) == ["applied", "unchanged"]
    assert len(await crew.log()) == 1


async def test_a_key_that_changes_hands_meanwhile_is_asked_for_again(reduce, crew, store):
    """
    Its first job ends between the statement and the look at what stood in the way: that is no refusal.
    """
    await reduce([submission(payload={"key": "a"})])
    (first,) = await crew.claim()

    class Meanwhile:
        async def submit(self, wanted):
            done = await store.jobs.submit(wanted)
            await crew.apply(jobs.completed(first, None))
            return done

    reduce.jobs = Meanwhile()
    again = submission(payload={"key": "a"})
    assert outcomes(await reduce([again])) == ["later"]
    reduce.jobs = store.jobs
    assert outcomes(await reduce([again])) == ["applied"]


async def test_a_run_elsewhere_is_told_as_one_here_is(reduce, crew, heard):
    """
    Started, progress and completion, each in its turn although they came in one batch.
    """
    (event,) = await crew.submit(_elsewhere())
    job = event.data["job"]["id"]
    verdicts = await reduce(
        [
            report(job, 1, 0, Started(worker="ecs-1")),
            report(job, 1, 1, Progressed(fraction=0.1)),
            report(job, 1, 2, Progressed(fraction=0.5, message="half")),
            report(job, 1, 3, Completed(result={"frames": 24})),
        ]
    )
    # Of two reports of progress in one batch the later is told.
    assert outcomes(verdicts) == ["applied", "unchanged", "applied", "applied"]
    assert await crew.history(job) == ["job_queued", "job_processor_started", "job_progress", "job_completed"]
    assert [event.type for event in heard] == ["job_processor_started", "job_progress", "job_completed"]
    assert (await crew.get(job)).result == {"frames": 24}


async def test_what_a_report_leads_to_is_in_the_trace_that_the_worker_names(reduce, crew, heard):
    """
    And in the submission's, if it names none; whose write it follows from stays the same.
    """
    asked, ran = ("00-" + digit * 32 + "-b7ad6b7169203331-01" for digit in "ab")
    job = str(uuid.uuid4())
    wish = attrs.evolve(submission("m1", job_id=job, type=EXTERNAL), traceparent=asked)
    begun = attrs.evolve(report(job, 1, 1, Started()), traceparent=ran)
    await reduce([wish, begun, report(job, 1, 2, Completed())])
    found = [(event.type, event.request.traceparent, event.request.mutation_id) for event in heard]
    assert found == [
        ("job_queued", asked, "m1"),
        ("job_processor_started", ran, "m1"),
        ("job_completed", asked, "m1"),
    ]


async def test_reports_that_overtake_each_other_lead_to_the_same_end(reduce, crew):
    """
    The completion alone begins the job and ends it; what comes after it is stale.
    """
    (event,) = await crew.submit(_elsewhere())
    job = event.data["job"]["id"]
    told = [
        report(job, 1, 3, Completed()),
        report(job, 1, 0, Started()),
        report(job, 1, 1, Progressed(fraction=0.1)),
    ]
    assert outcomes(await reduce(told)) == ["applied", "unchanged", "unchanged"]
    assert outcomes(await reduce(told)) == ["unchanged"] * 3
    assert await crew.history(job) == ["job_queued", "job_processor_started", "job_completed"]


async def test_a_second_run_that_is_told_before_the_end_of_the_first_waits_for_it(reduce, crew):
    """
    In one batch it is heard afterwards; alone it is left for later.
    """
    (event,) = await crew.submit(_elsewhere())
    job = event.data["job"]["id"]
    again = report(job, 2, 0, Started())
    assert outcomes(await reduce([report(job, 1, 0, Started())])) == ["applied"]
    (early,) = await reduce([again])
    assert (early.outcome, early.reason) == (
        "refused",
        "somebody else still runs the job: the report is ahead of another",
    )
    failed = report(job, 1, 1, Failed(error="out of memory", retry_after=0.0))
    assert outcomes(await reduce([again, failed])) == ["applied", "applied"]
    found = await crew.get(job)
    assert (found.state, found.attempt, found.fence, found.error) == (
        JobState.RUNNING,
        2,
        2,
        "out of memory",
    )


async def test_progress_is_told_at_most_four_times_a_second(reduce, crew):
    """
    What comes faster is put off; a newer report takes its place.
    """
    (event,) = await crew.submit(_elsewhere())
    job = event.data["job"]["id"]
    first, second, third = (report(job, 1, seq, Progressed(fraction=seq / 10)) for seq in (1, 2, 3))
    assert outcomes(await reduce([first])) == ["applied"]
    assert outcomes(await reduce([second])) == ["later"]
    assert outcomes(await reduce([second, third])) == ["unchanged", "later"]
    assert await crew.history(job) == ["job_queued", "job_processor_started", "job_progress"]


async def test_a_worker_that_was_cancelled_or_fell_silent_is_not_heard_any_more(reduce, crew):
    """
    Its fence is an old one.
    """
    (event,) = await crew.submit(_elsewhere())
    job = event.data["job"]["id"]
    await reduce([report(job, 5, 0, Started())])
    await crew.apply(jobs.rescued(await crew.get(job), delay=0.0, lapsed=False))
    assert outcomes(await reduce([report(job, 5, 1, Completed())])) == ["unchanged"]
    assert (await crew.get(job)).state is JobState.RETRY
    assert outcomes(await reduce([report(job, 7, 0, Completed())])) == ["applied"]


def _elsewhere():
    return new_job(EXTERNAL)
