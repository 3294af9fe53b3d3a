"""The Beanie adapter of fastapi-users on a scoped database, behind its own routes."""
# mypy: ignore-errors
# As in `test_beanie`.

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from beanie import Document, PydanticObjectId, init_beanie
from fastapi import Depends, FastAPI
from fastapi_users import BaseUserManager, FastAPIUsers, schemas
from fastapi_users.authentication import AuthenticationBackend, BearerTransport, JWTStrategy
from fastapi_users_db_beanie import (
    BaseOAuthAccount,
    BeanieBaseUser,
    BeanieUserDatabase,
    ObjectIDIDMixin,
)
from pydantic import Field
from support.scoped_world import World

SECRET = "a-secret-of-this-test-and-nothing-else"


class User(BeanieBaseUser, Document):
    oauth_accounts: Annotated[list[BaseOAuthAccount], Field(default_factory=list)]

    class Settings(BeanieBaseUser.Settings):
        """Where the users are."""

        name = "users"


class Manager(ObjectIDIDMixin, BaseUserManager[User, PydanticObjectId]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


async def manager() -> AsyncIterator[Manager]:
    yield Manager(BeanieUserDatabase(User, BaseOAuthAccount))


def strategy() -> JWTStrategy[User, PydanticObjectId]:
    return JWTStrategy(secret=SECRET, lifetime_seconds=60)


@pytest.fixture
async def web(world: World) -> AsyncIterator[httpx.AsyncClient]:
    await init_beanie(database=world.db("shop"), document_models=[User])
    backend = AuthenticationBackend("jwt", BearerTransport("login"), strategy)
    users = FastAPIUsers[User, PydanticObjectId](manager, [backend])
    read, create = schemas.BaseUser[PydanticObjectId], schemas.BaseUserCreate
    app = FastAPI()
    app.include_router(users.get_auth_router(backend))
    app.include_router(users.get_register_router(read, create))
    app.include_router(users.get_users_router(read, schemas.BaseUserUpdate), prefix="/users")

    @app.get("/name")
    async def name(user: Annotated[User, Depends(users.current_user(active=True))]) -> str:
        return user.email

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        yield client


async def test_users_register_log_in_and_change_themselves(
    world: World, web: httpx.AsyncClient
) -> None:
    person = {"email": "Ada@example.com", "password": "correct horse"}
    made = await web.post("/register", json=person)
    again = await web.post("/register", json={**person, "email": "ada@EXAMPLE.com"})
    assert (made.status_code, again.status_code) == (201, 400)
    assert world.raw["shop_users"].find_one({})["app_id"] == "shop"

    login = {"username": "ADA@example.com", "password": "correct horse"}
    token = (await web.post("/login", data=login)).json()["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    assert (await web.get("/name", headers=bearer)).json() == "Ada@example.com"
    changed = await web.patch("/users/me", headers=bearer, json={"email": "eve@example.com"})
    assert changed.status_code == 200
    assert (await web.get("/name", headers=bearer)).json() == "eve@example.com"
    assert (await web.get("/name")).status_code == 401


async def test_accounts_of_other_services_are_found_and_users_deleted(world: World) -> None:
    await init_beanie(database=world.db("shop"), document_models=[User])
    users = BeanieUserDatabase(User, BaseOAuthAccount)
    user = await users.create({"email": "a@b.c", "hashed_password": "x"})
    account = {
        "oauth_name": "git",
        "access_token": "t",
        "account_id": "7",
        "account_email": "a@b.c",
    }
    await users.add_oauth_account(user, account)

    assert (await users.get_by_oauth_account("git", "7")).id == user.id
    await users.update_oauth_account(user, user.oauth_accounts[0], {"access_token": "u"})
    assert (await users.get(user.id)).oauth_accounts[0].access_token == "u"
    await users.delete(user)
    assert await users.get_by_email("a@b.c") is None
