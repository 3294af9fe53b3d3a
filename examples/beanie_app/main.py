"""Beanie on a scoped database: what its tutorial does, in an app of its own.

Beanie is given the app's database and nothing else; its models, links, aggregations and indexes are
those of any other app with Beanie. See README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

from beanie import Document, Indexed, Link, PydanticObjectId, init_beanie
from beanie.operators import Inc, Set
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from pymongo.asynchronous.database import AsyncDatabase

from mdb_engine import MongoDBEngine

HERE = Path(__file__).parent

engine = MongoDBEngine.from_environment()


class Category(Document):
    """What a chocolate is called after."""

    name: Annotated[str, Indexed(unique=True)]
    description: str | None = None

    class Settings:
        """Where they are: a collection that the manifest declares."""

        name = "categories"


class Chocolate(Document):
    """What is sold."""

    name: str = Field(min_length=1, max_length=100)
    price: Annotated[float, Indexed()]
    sold: int = 0
    category: Link[Category] | None = None

    class Settings:
        """Where they are."""

        name = "chocolates"


class NewChocolate(BaseModel):
    """What somebody sells, in a category that is made if there is none."""

    name: str = Field(min_length=1, max_length=100)
    price: float = Field(ge=0)
    category: str = Field(min_length=1, max_length=100)


class Average(BaseModel):
    """The average price of a category."""

    category: str = Field(alias="_id")
    price: float


async def start() -> None:
    """Let Beanie know its models. Its annotations name the driver's database alone."""
    database = cast("AsyncDatabase[dict[str, Any]]", engine.get_scoped_db("beanie_app"))
    await init_beanie(database=database, document_models=[Category, Chocolate])


app: FastAPI = engine.create_app(
    slug="beanie_app",
    manifest=HERE / "manifest.json",
    on_startup=start,
    title="Chocolate",
)


@app.post("/chocolates", status_code=201)
async def add(new: NewChocolate) -> Chocolate:
    """Add a chocolate."""
    category = await Category.find_one(Category.name == new.category)
    if category is None:
        category = await Category(name=new.category).insert()
    fields: dict[str, Any] = {**new.model_dump(), "category": category}
    return await Chocolate(**fields).insert()


@app.get("/chocolates")
async def chocolates(cheaper_than: float = 1e9) -> list[Chocolate]:
    """Return the chocolates below a price, cheapest first, each with its category."""
    found = Chocolate.find(Chocolate.price < cheaper_than, fetch_links=True)
    return await found.sort("+price").to_list(100)


@app.get("/averages")
async def averages() -> list[Average]:
    """Return the average price of each category."""
    stages: list[dict[str, Any]] = [
        {
            "$lookup": {
                "from": "categories",
                "localField": "category.$id",
                "foreignField": "_id",
                "as": "category",
            }
        },
        {"$unwind": "$category"},
        {"$group": {"_id": "$category.name", "price": {"$avg": "$price"}}},
        {"$sort": {"_id": 1}},
    ]
    return await Chocolate.aggregate(stages, projection_model=Average).to_list()


@app.post("/chocolates/{chocolate_id}/sale", status_code=204)
async def sell(chocolate_id: PydanticObjectId) -> None:
    """Sell one; both changes happen, or none."""
    async with engine.transaction() as tx:
        session: Any = tx
        chocolate = await Chocolate.get(chocolate_id, session=session)
        if chocolate is None:
            raise HTTPException(404, "there is no such chocolate")
        await chocolate.update(Inc({"sold": 1}), session=session)  # type: ignore[no-untyped-call]
        changed = {"description": f"last sold: {chocolate.name}"}
        link = chocolate.category
        if link is not None:
            category = Category.find_one(Category.id == link.ref.id, session=session)
            await category.update(Set(changed))  # type: ignore[no-untyped-call]


@app.delete("/chocolates/{chocolate_id}", status_code=204)
async def remove(chocolate_id: PydanticObjectId) -> None:
    """Remove one."""
    chocolate = await Chocolate.get(chocolate_id)
    if chocolate is not None:
        await chocolate.delete()
