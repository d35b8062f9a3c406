"""The OpenAPI document: valid, complete, and at one with what the domain takes and the routes answer."""

import re
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain import composition, episode
from engine.domain.fields import Invalid
from gateway.rest import schemas
from tests.gateway.node_fixture import NOBODYS

METHODS = {"get", "put", "post", "delete", "patch"}
# Said of a schema, without forbidding anything.
REMARKS = {"title", "description", "default", "format"}


def follow(document, reference):
    """
    What a reference of the document points to.
    """
    assert reference.startswith("#/")
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return found


def allows(document, schema, value):
    """
    Whether a JSON Schema allows a value. Knows the keywords that are used here, and raises on others.

    An integer is one that is written as one: 1.0 is none to us, though it is to JSON Schema.
    """
    types = {
        "string": lambda: isinstance(value, str),
        "integer": lambda: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda: isinstance(value, int | float) and not isinstance(value, bool),
        "boolean": lambda: isinstance(value, bool),
        "null": lambda: value is None,
        "array": lambda: isinstance(value, list),
        "object": lambda: isinstance(value, dict),
    }
    checks = {
        "$ref": lambda wanted: allows(document, follow(document, wanted), value),
        "anyOf": lambda wanted: any(allows(document, one, value) for one in wanted),
        "enum": lambda wanted: any(type(one) is type(value) and one == value for one in wanted),
        "type": lambda wanted: types[wanted](),
        "minLength": lambda least: len(value) >= least,
        "maxLength": lambda most: len(value) <= most,
        "pattern": lambda pattern: re.search(pattern, value) is not None,
        "minimum": lambda least: value >= least,
        "maximum": lambda most: value <= most,
        "maxItems": lambda most: len(value) <= most,
        "uniqueItems": lambda wanted: len(set(value)) == len(value),
        "items": lambda wanted: all(allows(document, wanted, one) for one in value),
        "required": lambda names: all(name in value for name in names),
        "properties": lambda known: all(
            allows(document, known[name], value[name]) for name in known if name in value
        ),
        "additionalProperties": lambda wanted: wanted is not False or set(value) <= set(schema["properties"]),
    }
    first = [name for name in ("type",) if name in schema]
    rest = [name for name in schema if name not in REMARKS and name != "type"]
    return all(checks[name](schema[name]) for name in first + rest)


def undocumented(document, schema, value):
    """
    The names of what an answer has and its schema does not know.
    """
    if "$ref" in schema:
        schema = follow(document, schema["$ref"])
    if isinstance(value, list):
        return {name for one in value for name in undocumented(document, schema["items"], one)}
    if not isinstance(value, dict) or "properties" not in schema:
        return set()
    known = schema["properties"]
    deeper = (undocumented(document, known[name], value[name]) for name in value if name in known)
    return set(value) - set(known) | set().union(*deeper)


@pytest.fixture
async def document(greenroom):
    answer = await greenroom.request("GET", "openapi.json", token="")
    assert answer.status == 200
    return answer.json


def references(value):
    if isinstance(value, Mapping):
        for name, one in value.items():
            if name == "$ref":
                yield one
            else:
                yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


async def test_the_document_is_valid_openapi(document):
    """
    3.1, every reference resolves, and every operation has what it must have.
    """
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"] == "Greenroom"
    assert document["info"]["version"]
    assert set(document) <= {"openapi", "info", "paths", "components", "security", "tags"}
    found = list(references(document))
    assert found
    for reference in found:
        assert isinstance(follow(document, reference), dict)
    assert {reference.rpartition("/")[2] for reference in found} == set(document["components"]["schemas"])

    ids = []
    for path, operations in document["paths"].items():
        assert path.startswith("/")
        assert set(operations) <= METHODS
        for operation in operations.values():
            ids.append(operation["operationId"])
            assert operation["summary"]
            assert operation["tags"]
            in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))
            for parameter in operation["parameters"]:
                assert parameter["in"] in {"path", "query", "header"}
                assert parameter.get("required", False) == (parameter["in"] == "path")
                assert parameter["schema"]
            assert any(status.startswith("2") for status in operation["responses"])
            for status, response in operation["responses"].items():
                assert re.fullmatch(r"[1-5]\d\d|default", status)
                assert response["description"]
    assert len(ids) == len(set(ids))
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}]


async def test_every_route_of_the_app_is_in_the_document_and_nothing_else(greenroom, document):
    """
    Each method of each path; only pages for people and what plugins serve are left out.
    """
    routes = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in greenroom.application.rest.url_map.iter_rules()
        if not rule.endpoint.startswith(("pages.", "scripts.", "plugin_routes."))
        if rule.rule != "/api/v1/openapi.json"
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    documented = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert documented == routes
    without_token = {
        path for path, of in document["paths"].items() if of.get("get", {}).get("security") == []
    }
    assert without_token == {"/healthz", "/readyz", "/metrics", "/api/v1/sign-in"}


async def test_what_a_query_may_ask_for_is_documented(greenroom, document):
    """
    Every documented parameter is taken, and an undocumented one is refused.
    """
    [found] = (await greenroom.request("GET", "episodes")).json["data"] or [await greenroom.create()]
    for path, operations in document["paths"].items():
        operation = operations.get("get", {"parameters": []})
        asked = [one for one in operation["parameters"] if one["in"] == "query"]
        target = path.replace("{id}", found["id"])
        for parameter in asked:
            value = parameter["schema"].get("default", parameter["schema"].get("enum", [1])[0])
            value = found["id"] if parameter["schema"].get("format") == "uuid" else value
            answer = await greenroom.request("GET", f"{target}?{parameter['name']}={value}", role="operator")
            assert answer.status == 200 or parameter["name"] == "cursor", (path, parameter)
        if asked:
            (await greenroom.request("GET", f"{target}?undocumented=1", role="operator")).problem(422)


async def test_every_answer_is_as_documented(greenroom, document):
    """
    Each documented answer fits its schema, and has nothing that the schema does not tell of.
    """
    created = await greenroom.create(categories=["Drama"])
    path = f"/api/v1/episodes/{created['id']}"
    given = {"name": "Poster", "layers": [{"kind": "text", "text": "Pilot", "x": 1.5}]}
    poster = (await greenroom.request("POST", f"{path}/compositions", given)).json
    bob = await greenroom.connect()
    await bob.ask(type="presence", resourceType="episode", resourceId=created["id"])
    await greenroom.effects()
    [notice] = (await greenroom.request("GET", "notifications")).json["data"]
    job = (
        await greenroom.request("POST", "jobs", {"type": "test.elsewhere", "episode_id": created["id"]})
    ).json
    below = "/api/v1/episodes/{id}"
    within = "/api/v1/episodes/{episode_id}/compositions"
    asked = {
        ("get", "/api/v1/episodes"): ("/api/v1/episodes", None),
        ("post", "/api/v1/episodes"): ("/api/v1/episodes", {"title": "Two"}),
        ("get", below): (path, None),
        ("patch", below): (path, {"title": "New"}),
        ("put", below): (path, {"title": "Newer"}),
        ("get", f"{below}/presence"): (f"{path}/presence", None),
        ("get", f"{below}/events"): (f"{path}/events", None),
        ("get", f"{below}/activity"): (f"{path}/activity", None),
        ("get", f"{below}/jobs"): (f"{path}/jobs", None),
        ("get", "/api/v1/jobs"): ("/api/v1/jobs", None),
        ("post", "/api/v1/jobs"): ("/api/v1/jobs", {"type": "test.elsewhere"}),
        ("get", "/api/v1/jobs/{id}"): (f"/api/v1/jobs/{job['id']}", None),
        ("post", "/api/v1/jobs/{id}/cancel"): (f"/api/v1/jobs/{job['id']}/cancel", None),
        ("post", "/api/v1/jobs/{id}/retry"): (f"/api/v1/jobs/{job['id']}/retry", None),
        ("delete", "/api/v1/jobs"): ("/api/v1/jobs?older_than=0", None),
        ("get", within): (f"{path}/compositions", None),
        ("post", within): (f"{path}/compositions", given),
        ("get", f"{within}/{{id}}"): (f"{path}/compositions/{poster['id']}", None),
        ("patch", f"{within}/{{id}}"): (f"{path}/compositions/{poster['id']}", {"status": "final"}),
        ("put", f"{within}/{{id}}"): (f"{path}/compositions/{poster['id']}", given),
        ("get", "/api/v1/activity"): ("/api/v1/activity", None),
        ("get", "/api/v1/audit"): ("/api/v1/audit", None),
        ("get", "/api/v1/notifications"): ("/api/v1/notifications", None),
        ("post", "/api/v1/notifications/{id}/read"): (f"/api/v1/notifications/{notice['id']}/read", None),
        ("post", "/api/v1/notifications/read-all"): ("/api/v1/notifications/read-all", None),
        ("get", "/api/v1/sign-in"): ("/api/v1/sign-in", None),
        ("post", "/api/v1/sign-in"): ("/api/v1/sign-in", {"name": "Alice"}),
    }
    with_schema = {
        (method, where)
        for where, operations in document["paths"].items()
        for method, operation in operations.items()
        if any(
            "application/json" in told.get("content", ())
            for status, told in operation["responses"].items()
            if status != "default"
        )
    }
    assert set(asked) == with_schema
    for (method, where), (target, body) in asked.items():
        home = {"Host": "127.0.0.1"}
        answer = await greenroom.request(method.upper(), target, body, role="operator", headers=home)
        responses = document["paths"][where][method]["responses"]
        schema = responses[str(answer.status)]["content"]["application/json"]["schema"]
        assert allows(document, schema, answer.json), (method, where, answer.json)
        assert undocumented(document, schema, answer.json) == set(), (method, where)
        refusal = responses["default"]["content"]["application/problem+json"]["schema"]
    for wrong in ("episodes/x", f"episodes/{NOBODYS}", "episodes?limit=x", "nothing"):
        problem = (await greenroom.request("GET", wrong)).json
        assert allows(document, refusal, problem)
        assert undocumented(document, refusal, problem) == set()


async def test_request_schemas_of_the_document_are_those_that_are_held_to_the_domain(document):
    """
    So the properties below are about what is served.
    """
    for model in (
        schemas.EpisodeFields,
        schemas.EpisodePatch,
        schemas.CompositionFields,
        schemas.CompositionPatch,
    ):
        for name, schema in components(model).items():
            assert document["components"]["schemas"][name] == schema


def components(model):
    return msgspec.json.schema_components([model], ref_template="#/components/schemas/{name}")[1]


def agree(model, parse, fields):
    """
    What the schema allows the domain takes as it is; what the domain keeps of anything the schema allows.
    """
    document = {"components": {"schemas": components(model)}}
    schema = document["components"]["schemas"][model.__name__]
    kept = parse(fields)
    if allows(document, schema, fields):
        assert not isinstance(kept, Invalid), (fields, kept)
        assert kept == fields
    elif not isinstance(kept, Invalid):
        assert kept != fields, "the domain takes as it is what the schema forbids"
        assert allows(document, schema, kept), (fields, kept)


def lengths(*sizes):
    return [character * size for size in sizes for character in ("x", "\U0001f3ac")]


def categories_of(count):
    return [str(number) for number in range(count)]


# The edges of each field, so that none depends on chance; then whatever hypothesis can think of.
EDGES = {
    "title": [*lengths(0, 1, 199, 200, 201), "a\n", " a", "a b", "\0", "a\0", None, 1],
    "episode_number": [-1, 0, 1, 2**31 - 1, 2**31, None, "1", True, 0.5],
    "description": [*lengths(0, 1, 10_000, 10_001), " a", "\0", None, 1],
    "status": [*episode.STATUSES, *composition.STATUSES, "", "Draft", "done", None, 1],
    "categories": [
        *map(categories_of, (0, 1, 19, 20, 21)),
        *([text] for text in lengths(0, 1, 49, 50, 51)),
        *(["a", "a"], ["a", "a "], ["a", "A"], [" "], ["a\0"], [1], [None], None, "a", {}),
    ],
    "colour": ["red", None],
}
NUMBERS = (0, -0.5, 100_000, 100_000.5, -100_000, -100_001, None, "1", True)
LAYER_EDGES = {
    "kind": [*composition.KINDS, "circle", "", None, 1],
    **dict.fromkeys(("x", "y", "width", "height", "size"), NUMBERS),
    "text": [*lengths(0, 1, 1000, 1001), " a", "\0", None, 1],
    "color": [*lengths(0, 1, 50, 51), "#fff", None, 1],
    "image": [*lengths(0, 1, 500, 501), "https://example.com/a.png", None, 1],
    "z": [0, None],
}
texts = st.one_of(st.text(max_size=6), st.text(alphabet=" \t\n\0a\u00a0\u2028\x1f", max_size=4))
others = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.just([]), st.just({}), st.just(0.5))
anything = texts | st.integers() | st.lists(texts, max_size=4) | others


def mostly_right(field, right, edges):
    """
    Objects with the one field that is required, and any others.
    """
    return st.fixed_dictionaries({field: right}, optional={name: anything for name in edges if name != field})


episodes = mostly_right("title", texts, EDGES)
layers = mostly_right("kind", st.sampled_from(composition.KINDS), LAYER_EDGES)
compositions = st.fixed_dictionaries({"name": texts}, optional={"layers": st.lists(layers, max_size=2)})


def episodes_agree(fields):
    agree(schemas.EpisodeFields, episode.parse_new, fields)
    agree(schemas.EpisodePatch, episode.parse_patch, fields)


def compositions_agree(fields):
    agree(schemas.CompositionFields, composition.parse_new, fields)
    agree(schemas.CompositionPatch, composition.parse_patch, fields)


@pytest.mark.parametrize("field", EDGES)
def test_schema_and_domain_agree_about_the_edges_of_each_field_of_an_episode(field):
    """
    For a new episode and for a change; with the title there, and without.
    """
    for value in EDGES[field]:
        episodes_agree({"title": "Pilot", field: value})
        episodes_agree({field: value})


@pytest.mark.parametrize("field", LAYER_EDGES)
def test_schema_and_domain_agree_about_the_edges_of_each_field_of_a_layer(field):
    """
    Numbers, texts, kinds, and what is unknown.
    """
    for value in LAYER_EDGES[field]:
        compositions_agree({"name": "Poster", "layers": [{"kind": "box", field: value}]})


def test_schema_and_domain_agree_about_the_edges_of_a_composition():
    """
    Its name, its status, and how many layers it may have.
    """
    for title in EDGES["title"]:
        compositions_agree({"name": title})
    for status in EDGES["status"]:
        compositions_agree({"name": "Poster", "status": status})
    for several in ([], [{"kind": "box"}] * 100, [{"kind": "box"}] * 101, [{}], None, {}):
        compositions_agree({"name": "Poster", "layers": several})


@given(episodes)
def test_schema_and_domain_agree_about_any_episode(fields):
    """
    What the schema allows the domain accepts, and the reverse.
    """
    episodes_agree(fields)


@given(compositions)
def test_schema_and_domain_agree_about_any_composition(fields):
    """
    The same for compositions and their layers.
    """
    compositions_agree(fields)
