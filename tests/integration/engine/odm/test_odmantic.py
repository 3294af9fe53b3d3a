"""ODMantic on a scoped database: its engine takes the scoped client and its one database."""
# mypy: ignore-errors
# ODMantic annotates the fields of a class as what they are in an instance, and Motor alone.
# ruff: noqa: RUF012 - models as ODMantic's documents write them

import pytest
from odmantic import AIOEngine, EmbeddedModel, Field, Index, Model, Reference, query
from odmantic.exceptions import DuplicateKeyError
from support.scoped_world import World

from mdb_engine.exceptions import ScopeDenied


class Publisher(Model):
    name: str = Field(unique=True)

    model_config = {"collection": "categories"}


class Chapter(EmbeddedModel):
    title: str
    pages: int


class Book(Model):
    title: str
    pages: int
    tags: list[str] = []
    first: Chapter = Chapter(title="I", pages=1)
    publisher: Publisher = Reference()

    model_config = {
        "collection": "products",
        "indexes": lambda: [Index(Book.title, Book.pages, name="titles")],
    }


class Foreign(Model):
    name: str = Field(index=True)

    model_config = {"collection": "hr_people"}


@pytest.fixture
async def engine(world: World) -> AIOEngine:
    db = world.db("shop")
    made = AIOEngine(client=db.client, database=db.name)
    await made.configure_database([Publisher, Book])
    return made


@pytest.fixture
async def publisher(engine: AIOEngine) -> Publisher:
    return await engine.save(Publisher(name="house"))


async def test_models_are_saved_stamped_found_changed_and_removed(
    world: World, engine: AIOEngine, publisher: Publisher
) -> None:
    await engine.save_all(
        [
            Book(title=f"b{n}", pages=n, publisher=publisher, first=Chapter(title="I", pages=1))
            for n in range(5)
        ]
    )
    assert world.raw["shop_products"].count_documents({"app_id": "shop"}) == 5

    found = await engine.find(
        Book, (Book.pages >= 1) & (Book.title != "b4"), sort=query.desc(Book.pages), limit=2
    )
    assert [(one.title, one.publisher.name) for one in found] == [("b3", "house"), ("b2", "house")]
    assert [one.title async for one in engine.find(Book, Book.first.pages == 1, skip=4)] == ["b4"]
    book = await engine.find_one(Book, Book.title == "b0", sort=None)
    book.tags = ["new"]
    await engine.save(book)
    assert (await engine.find_one(Book, {"tags": "new"})) == book
    assert await engine.count(Book) == 5
    await engine.delete(book)
    assert await engine.remove(Book, Book.pages == 1, just_one=True) == 1
    assert await engine.count(Book) == 3


async def test_indexes_are_made_and_hold(
    world: World, engine: AIOEngine, publisher: Publisher
) -> None:
    assert "titles" in await world.db("shop").products.index_information()
    await engine.configure_database([Publisher, Book], update_existing_indexes=True)
    with pytest.raises(DuplicateKeyError):
        await engine.save(Publisher(name="house"))


async def test_sessions_and_transactions_commit_and_abort(
    engine: AIOEngine, publisher: Publisher
) -> None:
    async with engine.session() as session:
        await session.save(Book(title="kept", pages=1, publisher=publisher))
        assert await session.find_one(Book, Book.title == "kept")
    async with engine.transaction() as transaction:
        await transaction.save(Book(title="lost", pages=1, publisher=publisher))
        assert await transaction.count(Book) == 2
        await transaction.abort()
    async with engine.transaction() as transaction:
        await transaction.save(Book(title="committed", pages=1, publisher=publisher))
        await transaction.commit()

    assert {one.title async for one in engine.find(Book)} == {"kept", "committed"}


async def test_another_apps_collection_is_denied(world: World, engine: AIOEngine) -> None:
    world.raw["hr_people"].insert_one({"name": "ada", "app_id": "hr"})

    for attempt in (
        lambda: engine.find(Foreign),
        lambda: engine.find_one(Foreign),
        lambda: engine.save(Foreign(name="x")),
        lambda: engine.remove(Foreign),
    ):
        with pytest.raises(ScopeDenied):
            await attempt()
    with pytest.raises(ScopeDenied):
        await engine.configure_database([Foreign], update_existing_indexes=True)
    with pytest.raises(ScopeDenied):
        AIOEngine(client=world.db("shop").client, database="admin")
