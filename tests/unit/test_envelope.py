"""The envelope: what is written is read back, and whatever else comes is refused in words."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.envelope import (
    Completed,
    Envelope,
    Failed,
    Progressed,
    Report,
    Started,
    Submit,
    decode,
    encode,
)
from engine.domain.fields import Invalid

JOB = "0b7e8a52-0000-4000-8000-000000000001"
NOW = datetime(2026, 1, 7, 12, tzinfo=UTC)

words = st.text(st.characters(exclude_categories=("Cs", "Cc", "Z")), min_size=1, max_size=40)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=10,
)
outcomes = st.one_of(
    st.builds(Started, worker=st.none() | words),
    st.builds(Progressed, fraction=st.floats(0, 1), message=st.none() | words),
    st.builds(Completed, result=json_values),
    st.builds(Failed, error=words, retry=st.booleans(), retry_after=st.none() | st.floats(0, 86_400)),
)
counts = st.integers(1, 2**53 - 1)
bodies = st.one_of(
    st.builds(
        Submit, job_id=st.none() | st.uuids().map(str), data=st.dictionaries(words, json_values, max_size=5)
    ),
    st.builds(
        Report,
        job_id=st.uuids().map(str),
        fence=counts,
        seq=st.just(0) | counts,
        attempt=st.none() | counts,
        outcome=outcomes,
    ),
)
envelopes = st.builds(
    Envelope,
    id=words,
    source=words,
    time=st.integers(0, 10**12).map(lambda ms: NOW + timedelta(milliseconds=ms)),
    subject=st.none() | words,
    traceparent=st.none() | st.just("00-" + "a" * 32 + "-" + "b" * 16 + "-01"),
    body=bodies,
)


def submission(**fields):
    """
    A right `job.submit`, with these fields changed.
    """
    right = {
        "v": 1,
        "id": "m-1",
        "type": "job.submit",
        "source": "tests",
        "time": "2026-01-07T12:00:00Z",
        "data": {},
    }
    return json.dumps(right | fields)


def report(type_="job.progress", **fields):
    """
    A right report, with these fields changed.
    """
    right = {"job_id": JOB, "fence": 3, "seq": 7, "data": {"fraction": 0.5}}
    return submission(type=type_, **{**right, **fields})


@given(envelope=envelopes)
def test_what_is_encoded_is_decoded_to_the_same(envelope):
    """
    Nothing is lost on the way, whatever the message says.
    """
    assert decode(encode(envelope)) == envelope


@given(body=st.text() | json_values.map(json.dumps))
def test_whatever_comes_is_a_message_or_is_refused(body):
    """
    No text makes decoding fail in any other way, and every refusal says something.
    """
    match decode(body):
        case Invalid(errors):
            assert errors
            assert all(error.message for error in errors)
        case Envelope():
            pass


@given(envelope=envelopes, at=st.integers(0, 10_000), put=st.text(max_size=3))
def test_a_damaged_message_is_a_message_or_is_refused(envelope, at, put):
    """
    What is nearly right is read with the same care.
    """
    body = encode(envelope)
    place = at % (len(body) + 1)
    assert isinstance(decode(body[:place] + put + body[place + 1 :]), Envelope | Invalid)


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        ("", "", "is not JSON: Expecting value at character 0"),
        ('{"v": 1', "", "is not JSON"),
        ("[1]", "", "must be a JSON object"),
        ("[" * 100_000, "", "nested deeper than 64 levels"),
        ("[" * 70 + "]" * 70, "", "nested deeper than 64 levels"),
        (submission(data={"n": float("nan")}), "", "NaN"),
        (submission()[:-1] + ', "id": "again"}', "", "a name twice"),
        (submission(data={"text": "a\x00b"}), "", "NUL"),
        ('{"v": 1, "data": {"n": 1e999}}', "", "too large"),
        ('{"v": 1, "data": {"n": 18446744073709551616}}', "", "more than 64 bits"),
        ('{"v": 1, "data": {"n": 1' + "0" * 5000 + "}}", "", "Exceeds the limit"),
        (r'{"v": 1, "id": "\ud800"}', "", "half a surrogate pair"),
        (r'{"v": 1, "\ud800": 1}', "", "half a surrogate pair"),
        (submission(v=2), "v", "must be 1"),
        (submission(v=True), "v", "must be 1"),
        (submission(v=None), "v", "must be 1"),
        (submission(type="job.lunch"), "type", "must be one of job.submit, job.started, job.progress"),
        (submission(type=["job.submit"]), "type", "must be one of"),
        (submission(id=None), "id", "is required"),
        (submission(id="x" * 201), "id", "1 to 200 characters"),
        (submission(time="2026-01-07T12:00:00"), "time", "with its offset"),
        (submission(time=17), "time", "with its offset"),
        (submission(time="0001-01-01T00:00:00+23:59"), "time", "with its offset"),
        (submission(job_id="17"), "job_id", "must be a UUID"),
        (submission(traceparent="00-1-2-3"), "traceparent", "W3C Trace Context"),
        (submission(data=[]), "data", "must be a JSON object"),
        (submission(data=None), "data", "is required"),
        (submission(fence=1), "fence", "is not known here"),
        (submission(Type="x"), "Type", "is not known here; known are id, source, time"),
        (report(fence=None), "fence", "is required"),
        (report(fence=0), "fence", "an integer from 1"),
        (report(fence=2**53), "fence", "an integer from 1"),
        (report(fence=1.5), "fence", "an integer from 1"),
        (report(seq=True), "seq", "an integer from 0"),
        (report(data="half"), "data", "must be a JSON object"),
        (report(data={}), "data.fraction", "is required"),
        (report(data={"fraction": 1.01}), "data.fraction", "a number from 0 to 1"),
        (report(data={"fraction": True}), "data.fraction", "a number from 0 to 1"),
        (report("job.failed", data={"error": ""}), "data.error", "1 to 10000 characters"),
        (report("job.failed", data={"error": "x", "retry": 1}), "data.retry", "must be true or false"),
        (report("job.completed", data={"answer": 1}), "data.answer", "is not known here; known are result"),
    ],
)
def test_each_mistake_is_named_with_what_would_be_right(body, field, says):
    """
    Whoever reads the log line knows what to send instead.
    """
    refused = decode(body)
    assert isinstance(refused, Invalid)
    assert [error.field for error in refused.errors] == [field]
    assert says in refused.errors[0].message


def test_all_mistakes_of_a_message_are_named_at_once():
    """
    Header and data alike.
    """
    refused = decode(report(id=None, fence=0, data={"fraction": 2, "color": "red"}))
    assert isinstance(refused, Invalid)
    assert [error.field for error in refused.errors] == ["id", "fence", "data.fraction", "data.color"]


def test_a_null_is_the_same_as_nothing():
    """
    Senders whose language cannot leave a field out are understood.
    """
    assert decode(submission(job_id=None, attempt=None, fence=None, seq=None)) == decode(submission())


def test_times_are_kept_in_utc():
    """
    Wherever the sender's clock stands.
    """
    message = decode(submission(time="2026-01-07T13:00:00+01:00"))
    assert isinstance(message, Envelope)
    assert message.time == NOW
    assert message.time.tzinfo is UTC
