from __future__ import annotations

import re
from pathlib import Path

import pytest

from mdb_operator.config import ENV_PREFIX, Config, load_config
from mdb_operator.exceptions import ConfigurationInvalid

CHART = Path(__file__).parents[3] / "charts" / "mdb-operator"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Config.model_fields:
        monkeypatch.delenv(f"{ENV_PREFIX}{name.upper()}", raising=False)
    monkeypatch.setenv("MDB_OPERATOR_MONGODB_URI", "mongodb://op:hunter2@db/")


def test_only_where_mongodb_is_must_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config()
    assert config.watch_namespaces == ()
    assert config.isolation == "database"
    monkeypatch.delenv("MDB_OPERATOR_MONGODB_URI")
    with pytest.raises(ConfigurationInvalid, match="MDB_OPERATOR_MONGODB_URI_FILE"):
        load_config()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WATCH_NAMESPACES", "shop,Not A Name"),
        ("MONGODB_URI", "hunter2://op:hunter2@db/"),
        ("MONGODB_DATABASE", "my.db"),
        ("MONGODB_APPS_URI", "mongodb://op:hunter2@db/"),
        ("ISOLATION", "hunter2"),
        ("SECRET_WATCH", "perhaps"),
        ("CONCURRENCY", "0"),
        ("HTTP_PORT", "http"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MDB_OPERATOR_{name}", value)
    with pytest.raises(ConfigurationInvalid) as refused:
        load_config()
    assert f"MDB_OPERATOR_{name}: " in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_times_under_which_two_replicas_could_lead_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MDB_OPERATOR_LEASE_RENEW_DEADLINE_SECONDS", "10")
    with pytest.raises(ConfigurationInvalid, match="two replicas could lead"):
        load_config()


def test_namespaces_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MDB_OPERATOR_WATCH_NAMESPACES", " shop, bi,,shop ")
    assert load_config().watch_namespaces == ("shop", "bi")


def test_the_uri_is_read_from_its_file_each_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MDB_OPERATOR_MONGODB_URI")
    path = tmp_path / "uri"
    monkeypatch.setenv("MDB_OPERATOR_MONGODB_URI_FILE", str(path))
    config = load_config()
    with pytest.raises(ConfigurationInvalid, match="No such file"):
        config.read_mongodb_uri()
    path.write_text("mongodb://op:first@db/\n")
    assert config.read_mongodb_uri().get_secret_value() == "mongodb://op:first@db/"
    path.write_text("op:second@db")
    with pytest.raises(ConfigurationInvalid, match="must start with mongodb://") as refused:
        config.read_mongodb_uri()
    assert "second" not in str(refused.value)


def test_no_secret_is_part_of_the_settings_as_text() -> None:
    assert "hunter2" not in repr(load_config())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"WATCH_NAMESPACES": "a", "EXCLUDE_NAMESPACES": "b"}, "EXCLUDE_NAMESPACES, not both"),
        ({"EXCLUDE_NAMESPACES": "Not a name"}, "EXCLUDE_NAMESPACES: is not a list"),
        ({"HTTP_TLS_CERTIFICATE_FILE": "/tls.crt"}, "HTTP_TLS_KEY_FILE"),
        ({"MONGODB_APPS_ISSUER_DIR": "/ca", "ISOLATION": "library"}, "ISOLATION=database"),
        (
            {"MONGODB_APPS_ISSUER_DIR": "/ca", "MONGODB_APPS_CERTIFICATE_FILE": "/apps.pem"},
            "MONGODB_APPS_CERTIFICATE_FILE, not both",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    for name, value in {"MONGODB_URI": "mongodb://db", **settings}.items():
        monkeypatch.setenv(f"{ENV_PREFIX}{name}", value)
    with pytest.raises(ConfigurationInvalid, match=said):
        load_config()


def test_a_namespace_is_handled_unless_it_is_left_out() -> None:
    watched = load_config(mongodb_uri="mongodb://db", watch_namespaces="shop,bi")
    assert [watched.handles_namespace(name) for name in ("shop", "other")] == [True, False]
    excluded = load_config(mongodb_uri="mongodb://db", exclude_namespaces="kube-system")
    assert [excluded.handles_namespace(n) for n in ("shop", "kube-system")] == [True, False]


def test_every_setting_has_a_title_and_a_description() -> None:
    for name, field in Config.model_fields.items():
        assert field.title, name
        assert (field.description or "").endswith("."), name


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("k1:c2VjcmV0c2VjcmV0c2VjcmV0", "no key belongs here"),
        ("transit://me:c2VjcmV0c2VjcmV0@bao/transit/mdb", "must hold no user"),
        ("secret,", "neither a URI"),
    ],
)
def test_key_managers_are_uris_and_hold_no_credentials(value: str, message: str) -> None:
    with pytest.raises(
        ConfigurationInvalid, match=f"MDB_OPERATOR_MASTER_KEY_URI: .*{message}"
    ) as no:
        load_config(mongodb_uri="mongodb://db", master_key_uri=value)
    assert "c2VjcmV0" not in str(no.value)


def test_the_chart_sets_known_settings_in_the_same_order() -> None:
    deployment = (CHART / "templates" / "deployment.yaml").read_text()
    names = re.findall(rf"- name: {ENV_PREFIX}(\w+)", deployment)
    order = [name.upper() for name in Config.model_fields]
    assert [order.index(name) for name in names] == sorted(order.index(name) for name in names)
    # What a pod must not or need not be told: a file is safer, and the rest fits outside only.
    assert set(order) - set(names) == {
        "KUBECONFIG",
        "MONGODB_URI",
        "MASTER_KEY_DIR",
        "LEADER_ELECTION",
        "HTTP_HOST",
    }


def test_a_directory_is_short_for_the_key_manager_that_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_config().key_managers == ["secret"]
    monkeypatch.setenv("MDB_OPERATOR_MASTER_KEY_DIR", "/etc/my keys")
    assert load_config().key_managers == ["file:///etc/my%20keys"]
    monkeypatch.setenv("MDB_OPERATOR_MASTER_KEY_URI", "file:///etc/keys")
    with pytest.raises(ConfigurationInvalid, match="not both"):
        load_config()
