"""The OpenAPI document: what quart-schema makes of the routes, and what it leaves out."""

from collections.abc import Iterable
from inspect import getdoc
from typing import Any

import msgspec
from quart_schema.openapi import OpenAPIProvider
from werkzeug.routing import BaseConverter, Rule

from gateway.rest import schemas

JSON = "application/json"
PNG = "image/png"
PROBLEM = "application/problem+json"
IDS = ("id", "episode_id")

_Json = dict[str, Any]


class Provider(OpenAPIProvider):
    """
    quart-schema's provider keeps a model's own schema and drops those that it refers to.
    """

    def build_paths(self, rule: Rule) -> tuple[_Json, _Json]:
        """
        A path's operations; each may refuse, and answers something even where no schema says what.
        """
        paths, components = super().build_paths(rule)
        problem, more = _referred(schemas.Problem)
        refusal = {"description": _text(schemas.Problem), "content": {PROBLEM: {"schema": problem}}}
        for operations in paths.values():
            for method, operation in operations.items():
                told = {str(status): answer for status, answer in operation["responses"].items()}
                nothing = (
                    {"204": {"description": "Done."}}
                    if method == "delete"
                    else {"200": {"description": "Done."}}
                )
                operation["responses"] = {**(told or nothing), "default": refusal}
        return paths, {**components, **more}

    def build_path_parameter(self, name: str, converter: BaseConverter) -> _Json:
        """
        A part of the path; ids are UUIDs.
        """
        parameter = super().build_path_parameter(name, converter)
        if name in IDS:
            parameter["schema"]["format"] = "uuid"
        return parameter

    def build_request_body(self, model: Any, source: Any) -> tuple[_Json, _Json]:
        """
        What must be sent.
        """
        reference, components = _referred(model)
        return {"required": True, "content": {JSON: {"schema": reference}}}, components

    def build_response_object(self, model: Any, headers_model: Any) -> tuple[_Json, _Json]:
        """
        What is answered.
        """
        if model is schemas.Png:
            picture = {PNG: {"schema": {"type": "string", "format": "binary"}}}
            return {"description": _text(model), "content": picture}, {}
        reference, components = _referred(model)
        return {"description": _text(model), "content": {JSON: {"schema": reference}}}, components

    def build_querystring_parameters(self, model: Any) -> tuple[list[_Json], _Json]:
        """
        What the query may ask for.
        """
        return list(_parameters(model, "query")), {}

    def build_headers_parameters(self, model: Any) -> tuple[list[_Json], _Json]:
        """
        What headers may ask for.
        """
        return list(_parameters(model, "header")), {}


def _referred(model: Any) -> tuple[_Json, _Json]:
    (reference,), components = msgspec.json.schema_components(
        [model], ref_template="#/components/schemas/{name}"
    )
    return reference, components


def _parameters(model: Any, place: str) -> Iterable[_Json]:
    _, components = _referred(model)
    for name, schema in components[model.__name__]["properties"].items():
        described = {"description": schema.pop("description")} if "description" in schema else {}
        yield {"name": name, "in": place, "schema": schema, **described}


def _text(model: Any) -> str:
    return getdoc(model) or ""
