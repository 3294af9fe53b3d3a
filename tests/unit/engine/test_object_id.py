"""``PyObjectId`` wherever FastAPI and pydantic meet an id: model, parameter, answer, OpenAPI."""

from __future__ import annotations

from typing import Annotated

import httpx
import pytest
from bson import ObjectId
from fastapi import FastAPI, Query
from pydantic import BaseModel, Field, ValidationError

from mdb_engine import PyObjectId

ID = "65f0c0ffee00112233445566"


class Thing(BaseModel):
    """A document with an id, and with ids of others."""

    id: PyObjectId = Field(alias="_id", default_factory=ObjectId)
    others: list[PyObjectId] = []


app = FastAPI()


@app.get("/things/{thing_id}", response_model=Thing)
async def read(
    thing_id: PyObjectId,
    other: Annotated[list[PyObjectId], Query()] = [],  # noqa: B006
) -> dict[str, object]:
    assert type(thing_id) is ObjectId
    return {"_id": thing_id, "others": other}


@app.post("/things")
async def write(thing: Thing) -> Thing:
    assert type(thing.id) is ObjectId
    return thing


async def test_it_is_a_parameter_a_body_and_an_answer() -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        answer = await client.get(f"/things/{ID}", params={"other": [ID, ID]})
        assert answer.json() == {"_id": ID, "others": [ID, ID]}
        echoed = await client.post("/things", json={"_id": ID})
        assert echoed.json() == {"_id": ID, "others": []}
        for wrong in ("x", ID[:-1], f"{ID}0", "z" * 24):
            assert (await client.get(f"/things/{wrong}")).status_code == 422
            assert (await client.post("/things", json={"_id": wrong})).status_code == 422


def test_openapi_says_what_it_looks_like() -> None:
    schema = app.openapi()
    (parameter, _) = schema["paths"]["/things/{thing_id}"]["get"]["parameters"]
    model = schema["components"]["schemas"]["Thing"]["properties"]
    for described in (parameter["schema"], model["_id"], model["others"]["items"]):
        assert (described["type"], described["pattern"]) == ("string", "^[0-9a-fA-F]{24}$")


def test_a_model_takes_ids_and_texts_and_gives_them_back() -> None:
    thing = Thing.model_validate({"_id": ObjectId(ID)})
    assert thing == Thing.model_validate({"_id": ID})
    assert thing.model_dump()["id"] == ObjectId(ID)
    assert ID in thing.model_dump_json()
    with pytest.raises(ValidationError):
        Thing.model_validate({"_id": {"$gt": ""}})
