"""The example's files agree with each other: two ways to say the same must not differ."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mdb_engine.models.manifest import Manifest
from mdb_engine.models.spec import MdbAppSpec

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "multi_app"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EXAMPLE / "k8s" / name).read_text()))


@pytest.mark.parametrize("app", ["click_tracker", "dashboard"])
def test_the_mdbapp_says_what_the_manifest_says(app: str) -> None:
    manifest = Manifest.load(EXAMPLE / app / "manifest.json")
    [resource] = [
        one for one in documents("mdbapps.yaml") if one["metadata"]["name"] == app.replace("_", "-")
    ]
    assert MdbAppSpec.parse(resource["spec"]).normalised() == manifest.to_spec().normalised()


def test_every_deployment_mounts_the_secret_of_its_app_as_a_directory() -> None:
    for app in ("click-tracker", "dashboard"):
        deployment, service = documents(f"{app}.yaml")
        pod = deployment["spec"]["template"]["spec"]
        [binding] = [volume for volume in pod["volumes"] if volume["name"] == "binding"]
        assert binding["secret"]["secretName"] == f"{app}-mdb"
        [container] = pod["containers"]
        [mount] = [one for one in container["volumeMounts"] if one["name"] == "binding"]
        assert "subPath" not in mount
        assert mount["readOnly"] is True
        assert not [env for env in container["env"] if "valueFrom" in env]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()


def test_the_kustomization_lists_every_file() -> None:
    [listing] = documents("kustomization.yaml")
    files = {path.name for path in (EXAMPLE / "k8s").iterdir()} - {"kustomization.yaml"}
    assert set(listing["resources"]) == files


def test_compose_refers_to_what_there_is() -> None:
    compose = yaml.safe_load((EXAMPLE / "docker-compose.yml").read_text())
    services = compose["services"]
    for name in ("click-tracker", "dashboard"):
        service = services[name]
        context = (EXAMPLE / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]).is_file()
        module = service["command"][0].partition(":")[0]
        assert (EXAMPLE / module.replace(".", "/")).with_suffix(".py").is_file()
        [deployment, _] = documents(f"{name}.yaml")
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        assert service["command"] == container["args"]
        assert service["env_file"] == ".env"
        assert "environment" not in service, "settings stand in .env alone"
        assert set(service["depends_on"]) <= set(services)
    settings = (EXAMPLE / ".env.example").read_text()
    names = set(re.findall(r"^([A-Z_]+)=", settings, flags=re.MULTILINE))
    assert names == {"MDB_ENGINE_MASTER_KEY", "MONGODB_URI", "MONGODB_DB"}
    assert re.search(r"^MDB_ENGINE_MASTER_KEY=$", settings, flags=re.MULTILINE)
    assert "mongodb://mongodb:" in settings
    assert "mongodb" in services, "the name in the earlier version's compose file"


def test_no_page_loads_anything_from_elsewhere() -> None:
    pages = [*EXAMPLE.glob("*/templates/*.html"), *EXAMPLE.glob("*/static/*.*")]
    assert len(pages) > 6
    for page in pages:
        text = page.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, page
        assert "<script>" not in text, page
        assert " style=" not in text, page
        assert "innerHTML" not in text, page


def test_the_charts_library_is_shipped_with_its_licence() -> None:
    vendor = EXAMPLE / "dashboard" / "static" / "vendor"
    [library] = vendor.glob("chart-*.min.js")
    assert "MIT License" in (vendor / "LICENSE.chartjs.md").read_text()
    page = (EXAMPLE / "dashboard" / "templates" / "dashboard.html").read_text()
    assert f"/static/vendor/{library.name}" in page
    assert json.loads((EXAMPLE / "common" / "logging.json").read_text())["version"] == 1
