"""Beanie on a scoped database, as on a driver's: no switch, no model of another kind."""
# mypy: ignore-errors
# Beanie annotates the fields of a class as what they are in an instance, and its driver alone.
# ruff: noqa: D106, RUF012 - models as Beanie's documents write them

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID, uuid4

import pymongo
import pytest
from beanie import (
    BackLink,
    BulkWriter,
    DecimalAnnotation,
    DeleteRules,
    Document,
    DocumentWithSoftDelete,
    Indexed,
    Insert,
    Link,
    PydanticObjectId,
    Replace,
    TimeSeriesConfig,
    UnionDoc,
    View,
    WriteRules,
    before_event,
    init_beanie,
)
from beanie.operators import Exists, In, Inc, Push, RegEx, Set
from pydantic import BaseModel, Field
from pymongo.errors import DuplicateKeyError
from support.scoped_world import World

from mdb_engine.exceptions import MdbEngineError, QueryRefused, ScopeDenied
from mdb_engine.scoped import ScopedDatabase

OBJECT_CREATED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Category(Document):
    name: Annotated[str, Indexed(unique=True)]
    description: str | None = None

    class Settings:
        name = "categories"


class Size(BaseModel):
    width: int
    height: int


class Product(Document):
    name: str
    price: DecimalAnnotation
    colour: Colour = Colour.RED
    key: UUID = Field(default_factory=uuid4)
    made: dt.datetime = OBJECT_CREATED
    size: Size | None = None
    tags: list[str] = []
    category: Link[Category] | None = None

    class Settings:
        name = "products"
        use_state_management = True
        use_revision = False
        indexes = (
            "price",
            [("name", pymongo.ASCENDING), ("price", pymongo.DESCENDING)],
            pymongo.IndexModel(
                [("tags", pymongo.ASCENDING)],
                name="tagged",
                partialFilterExpression={"price": {"$gt": 0}},
            ),
        )


class Window(Document):
    x: int

    class Settings:
        name = "windows"


class House(Document):
    name: str
    windows: list[Link[Window]] = []
    doors: list[BackLink[Door]] = Field(default=[], json_schema_extra={"original_field": "house"})

    class Settings:
        name = "houses"


class Door(Document):
    width: int
    house: Link[House]

    class Settings:
        name = "doors"


class Animal(Document):
    name: str

    class Settings:
        name = "animals"
        is_root = True


class Dog(Animal):
    barks: bool = True


class Note(DocumentWithSoftDelete):
    text: str
    changes: int = 0

    @before_event(Insert, Replace)
    def add_change(self) -> None:
        self.changes += 1

    class Settings:
        name = "notes"
        use_revision = True


class ProductsByColour(BaseModel):
    id: str = Field(alias="_id")
    total: DecimalAnnotation


House.model_rebuild()

MODELS = [Category, Product, Window, House, Door, Animal, Dog, Note]


@pytest.fixture
async def db(world: World) -> ScopedDatabase:
    database = world.db("shop")
    await init_beanie(database=database, document_models=MODELS)
    return database


async def test_documents_are_inserted_stamped_found_changed_and_deleted(
    world: World, db: ScopedDatabase
) -> None:
    pen = Product(name="pen", price=Decimal("1.50"), tags=["blue"], size=Size(width=1, height=9))
    await pen.insert()

    stored = world.raw["shop_products"].find_one({})
    assert stored["app_id"] == "shop"
    same = await Product.get(pen.id)
    assert same is not None
    assert (same.key, same.price, same.size) == (pen.key, pen.price, pen.size)

    pen.price = Decimal("1.75")
    await pen.save()
    await pen.set({Product.name: "pencil"})
    await pen.update(Inc({Product.size.width: 2}), Push({Product.tags: "long"}))
    found = await Product.find_one(Product.name == "pencil")
    assert found is not None
    assert (found.price, found.tags) == (Decimal("1.75"), ["blue", "long"])
    assert found.size == Size(width=3, height=9)
    await found.delete()
    assert await Product.count() == 0


async def test_operators_sorting_paging_and_projections_find(db: ScopedDatabase) -> None:
    await Product.insert_many(
        [Product(name=f"p{n}", price=Decimal(n), tags=["even"] * (n % 2 == 0)) for n in range(6)]
    )

    class Named(BaseModel):
        name: str

    cheap = await Product.find(Product.price < Decimal(3)).sort(-Product.price).to_list()
    assert [one.name for one in cheap] == ["p2", "p1", "p0"]
    assert await Product.find(In(Product.name, ["p1", "p9"])).count() == 1
    assert await Product.find(RegEx(Product.name, "^p[01]$")).count() == 2
    assert await Product.find({"tags": "even"}, Exists(Product.size)).count() == 3
    page = await Product.find_all(skip=2, limit=2, sort="name").project(Named).to_list()
    assert [one.name for one in page] == ["p2", "p3"]
    assert sorted(await Product.distinct("name")) == [f"p{n}" for n in range(6)]
    assert await Product.find(Product.name == "p1", sort=[]).to_list()
    changed = await Product.find(Product.price >= Decimal(4)).update(Set({Product.colour: "blue"}))
    assert changed.modified_count == 2
    async for one in Product.find(Product.colour == Colour.BLUE):
        assert one.price >= 4
    gone = await Product.find(Product.price < Decimal(2)).delete()
    assert gone is not None
    assert gone.deleted_count == 2
    first = await Product.find_one(Product.name == "new").upsert(
        Set({Product.price: Decimal(1)}), on_insert=Product(name="new", price=Decimal(9))
    )
    assert isinstance(first, Product)
    assert await Product.find(Product.name == "p2").exists()
    assert await Product.find(Product.name == "p2").first_or_none()


async def test_aggregations_answer(db: ScopedDatabase) -> None:
    await Product.insert_many(
        [
            Product(name="a", price=Decimal(1)),
            Product(name="b", price=Decimal(2)),
            Product(name="c", price=Decimal(5), colour=Colour.BLUE),
        ]
    )

    rows = await Product.aggregate(
        [
            {"$group": {"_id": "$colour", "total": {"$sum": "$price"}}},
            {"$sort": {"_id": 1}},
        ],
        projection_model=ProductsByColour,
    ).to_list()

    assert [(row.id, row.total) for row in rows] == [("blue", Decimal(5)), ("red", Decimal(3))]
    assert str(await Product.find(Product.colour == "red").sum(Product.price)) == "3"
    assert str(await Product.max(Product.price)) == "5"


async def test_links_are_written_and_fetched_in_every_way(db: ScopedDatabase) -> None:
    house = House(name="h", windows=[Window(x=1), Window(x=2)])
    await house.insert(link_rule=WriteRules.WRITE)
    await Door(width=9, house=house).insert()

    fetched = await House.find_one(House.name == "h", fetch_links=True)
    assert fetched is not None
    assert sorted(one.x for one in fetched.windows) == [1, 2]
    lazily = await House.find_one(House.name == "h")
    assert lazily is not None
    await lazily.fetch_all_links()
    assert sorted(one.x for one in lazily.windows) == [1, 2]
    by_link = await House.find(House.windows.x == 2, fetch_links=True).to_list()
    assert [one.name for one in by_link] == ["h"]
    back = await House.find(House.name == "h", fetch_links=True).to_list()
    assert [one.width for one in back[0].doors] == [9]
    assert await Door.find(Door.house.id == house.id).count() == 1
    await fetched.delete(link_rule=DeleteRules.DELETE_LINKS)
    assert await Window.find(Window.x < 9).count() == 0


async def test_indexes_of_settings_are_made_once_and_hold(db: ScopedDatabase) -> None:
    made = await db.products.index_information()
    assert {"price_1", "name_1_price_-1", "tagged"} <= made.keys()
    await init_beanie(database=db, document_models=MODELS)
    assert await db.products.index_information() == made

    await Category(name="one").insert()
    with pytest.raises(DuplicateKeyError):
        await Category(name="one").insert()


async def test_indexes_that_the_model_lost_are_dropped_where_it_asks_for_that(
    db: ScopedDatabase,
) -> None:
    class Fewer(Document):
        name: str

        class Settings:
            name = "products"

    await init_beanie(database=db, document_models=[Fewer], allow_index_dropping=True)

    assert (await db.products.index_information()).keys() == {"_id_"}


async def test_what_changed_is_known_and_saved_alone(world: World, db: ScopedDatabase) -> None:
    pen = await Product(name="pen", price=Decimal(1)).insert()
    assert not pen.is_changed
    pen.name = "pencil"
    assert pen.is_changed
    assert pen.get_changes() == {"name": "pencil"}
    world.commands.clear()

    await pen.save_changes()

    assert not pen.is_changed
    update = world.commands.last
    assert "name" in str(update)
    assert "price" not in str(update.get("update", update.get("updates")))


async def test_a_bulk_writer_sends_what_it_collected(db: ScopedDatabase) -> None:
    pen = await Product(name="pen", price=Decimal(1)).insert()

    async with BulkWriter() as bulk:
        await Product.insert_one(Product(name="ink", price=Decimal(2)), bulk_writer=bulk)
        await pen.update(Set({Product.price: Decimal(7)}), bulk_writer=bulk)
        await Product.find(Product.name == "none").delete(bulk_writer=bulk)

    assert await Product.count() == 2
    assert await Product.find(Product.price == Decimal(7)).count() == 1


async def test_transactions_commit_and_abort(db: ScopedDatabase, world: World) -> None:
    async with world.transaction() as tx:
        await Product(name="kept", price=Decimal(1)).insert(session=tx)
        assert await Product.find_one(Product.name == "kept", session=tx)
        assert await Product.find_one(Product.name == "kept") is None

    async def fail() -> None:
        async with db.client.start_session() as session, await session.start_transaction():
            await Product(name="lost", price=Decimal(1)).insert(session=session)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()

    assert [one.name async for one in Product.find_all()] == ["kept"]


async def test_inheritance_events_revisions_and_soft_deletion_work(db: ScopedDatabase) -> None:
    await Dog(name="rex").insert()
    await Animal(name="cat").insert()
    assert await Dog.count() == 1
    assert {type(one) for one in await Animal.find_all(with_children=True).to_list()} == {
        Animal,
        Dog,
    }

    note = await Note(text="a").insert()
    note.text = "b"
    await note.replace()
    assert note.changes == 2
    await note.delete()
    assert await Note.find_all().to_list() == []
    assert len(await Note.find_many_in_all().to_list()) == 1


async def test_one_list_of_several_kinds(db: ScopedDatabase) -> None:
    class Things(UnionDoc):
        class Settings:
            name = "notes"
            class_id = "_class_id"

    class Paper(Document):
        pages: int

        class Settings:
            union_doc = Things

    class Card(Document):
        word: str

        class Settings:
            union_doc = Things

    await init_beanie(database=db, document_models=[Things, Paper, Card])
    await Paper(pages=3).insert()
    await Card(word="a").insert()

    assert {type(one) for one in await Things.all().to_list()} == {Paper, Card}
    assert await Paper.count() == 1


async def test_what_cannot_be_scoped_is_refused_with_a_reason(db: ScopedDatabase) -> None:
    class Cheap(View):
        name: str

        class Settings:
            source = Product
            pipeline = [{"$match": {"price": {"$lt": 1}}}]

    class Measured(Document):
        at: dt.datetime

        class Settings:
            name = "notes"
            timeseries = TimeSeriesConfig(time_field="at")

    with pytest.raises(QueryRefused, match="a raw command knows no scopes"):
        await init_beanie(database=db, document_models=[Product, Category, Cheap])
    with pytest.raises(QueryRefused, match="timeseries"):
        await init_beanie(database=db, document_models=[Measured])


class Person(Document):
    name: str

    class Settings:
        name = "hr_people"


class Item(Document):
    sku: str

    class Settings:
        name = "stock_items"


class Spying(Document):
    person: Link[Person] | None = None
    item: Link[Item] | None = None

    class Settings:
        name = "notes"


async def attempts(spy: Spying) -> list[Any]:
    """Return what another app's document could be reached by, as calls."""
    return [
        lambda: Person.find_all().to_list(),
        lambda: Person.get(PydanticObjectId()),
        lambda: Person(name="x").insert(),
        lambda: Person.find_all().delete(),
        lambda: spy.fetch_link(Spying.person),
        lambda: Spying.find_all(fetch_links=True).to_list(),
        lambda: Spying.find(Spying.person.name == "ada", fetch_links=True).to_list(),
        lambda: Spying.aggregate(
            [{"$lookup": {"from": "hr_people", "pipeline": [], "as": "x"}}]
        ).to_list(),
    ]


async def test_a_link_leads_to_no_document_of_an_app_that_granted_nothing(
    world: World, db: ScopedDatabase
) -> None:
    secret = world.raw["hr_people"].insert_one({"name": "ada", "app_id": "hr"}).inserted_id
    await init_beanie(database=db, document_models=[Item, Person, Spying], skip_indexes=True)
    spy = await Spying(person=Link.from_id(secret) if hasattr(Link, "from_id") else None).insert()
    world.raw["shop_notes"].update_one(
        {},
        {"$set": {"person": {"$ref": "hr_people", "$id": secret}}},
        bypass_document_validation=True,
    )
    spy = (await Spying.find_all().to_list())[0]

    for attempt in await attempts(spy):
        with pytest.raises(ScopeDenied):
            await attempt()
    assert world.raw["hr_people"].count_documents({}) == 1


async def test_a_granted_document_is_fetched_by_its_link_and_not_written(
    world: World, db: ScopedDatabase
) -> None:
    item = world.raw["stock_items"].insert_one({"sku": "7", "app_id": "stock"}).inserted_id
    world.raw["stock_items"].insert_one({"_id": 1, "sku": "8", "app_id": "hr"})

    class Basket(Document):
        item: Link[Item]

        class Settings:
            name = "notes"

    await init_beanie(database=db, document_models=[Item, Basket], skip_indexes=True)
    found = await Item.get(item)
    assert found is not None
    await Basket(item=found).insert()

    (basket,) = await Basket.find_all(fetch_links=True).to_list()
    assert basket.item.sku == "7"
    assert await Item.count() == 1
    with pytest.raises(ScopeDenied):
        await basket.insert(link_rule=WriteRules.WRITE)
    with pytest.raises(ScopeDenied):
        await found.set({Item.sku: "stolen"})


async def test_no_index_is_made_on_a_granted_collection(db: ScopedDatabase) -> None:
    class Indexing(Document):
        sku: Annotated[str, Indexed()]

        class Settings:
            name = "stock_items"

    with pytest.raises(ScopeDenied):
        await init_beanie(database=db, document_models=[Indexing])


async def test_a_model_cannot_write_another_stamp(world: World, db: ScopedDatabase) -> None:
    class Forged(Document):
        app_id: str = "hr"
        text: str = ""

        class Settings:
            name = "notes"

    await init_beanie(database=db, document_models=[Forged])
    forged = await Forged().insert()
    assert world.raw["shop_notes"].find_one({})["app_id"] == "shop"
    with pytest.raises(MdbEngineError):
        await forged.set({"app_id": "hr"})
    forged.text = "more"
    with pytest.raises(MdbEngineError):
        await forged.save()
