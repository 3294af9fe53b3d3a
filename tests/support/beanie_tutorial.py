"""What the app with Beanie does, by its HTTP: the same as a plain process and in a pod."""

from __future__ import annotations

import httpx

__all__ = ["follow_tutorial"]


def follow_tutorial(app: httpx.Client) -> None:
    """Do what Beanie's tutorial does, with a link, an aggregation and a transaction."""
    for name, price, category in (("Tony", 5.5, "nuts"), ("Ada", 2.5, "nuts"), ("Eve", 4, "dark")):
        new = {"name": name, "price": price, "category": category}
        made = app.post("/chocolates", json=new)
        assert made.status_code == 201, made.text

    cheap = app.get("/chocolates", params={"cheaper_than": 5}).json()
    assert [(one["name"], one["category"]["name"]) for one in cheap] == [
        ("Ada", "nuts"),
        ("Eve", "dark"),
    ]
    assert app.get("/averages").json() == [
        {"_id": "dark", "price": 4.0},
        {"_id": "nuts", "price": 4.0},
    ]

    ada = cheap[0]["_id"]
    assert app.post(f"/chocolates/{ada}/sale").status_code == 204
    (sold,) = [one for one in app.get("/chocolates").json() if one["_id"] == ada]
    assert (sold["sold"], sold["category"]["description"]) == (1, "last sold: Ada")
    assert app.post("/chocolates/65f0c0ffee00112233445566/sale").status_code == 404
    assert app.post("/chocolates/nowhere/sale").status_code == 422
    assert app.delete(f"/chocolates/{ada}").status_code == 204
    assert len(app.get("/chocolates").json()) == 2
