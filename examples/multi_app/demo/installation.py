"""From nothing to both apps ready: cluster, images, Helm release, ``kubectl apply``."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click
import settings
import yaml

from devcluster import images, providers
from devcluster.commands import run
from devcluster.image_builders import BuildahBuilder, Builder, DockerBuilder, buildah
from devcluster.images import ImageSpec
from devcluster.mongod_binary import find_mongod
from devcluster.progress import Progress
from devcluster.provider import Provider

MONGO_IMAGE_OF_THE_REGISTRY = "mongo:8"

LOADED = "mdb-demo/image-"
"""Prefix of the annotations of the node that say which build of an image it has: loading one takes
longer than everything else, and mostly it is the same as last time.
"""


class Installation:
    """The demo's cluster and what runs on it.

    Parameters
    ----------
    progress
        Shows what is done.
    starting
        Whether the demo is to be started: only then is an engine started where there is none.
    """

    def __init__(self, progress: Progress, *, starting: bool = False) -> None:
        self._progress = progress
        self.provider: Provider = providers.select(settings.CLUSTER, progress, starting=starting)
        self._foreign = self.provider.kind == "kubeconfig"
        if self._foreign and not settings.REGISTRY:
            raise click.ClickException(
                "images cannot be loaded into a cluster of your kubeconfig; name a registry that it"
                " pulls from: DEMO_REGISTRY=registry.example.com/mdb"
            )

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment in which kubectl and helm use the cluster."""
        tools = self.provider.tools()
        path = os.environ.get("PATH", "")
        return {
            **os.environ,
            "KUBECONFIG": str(self.provider.kubeconfig()),
            "PATH": f"{tools}{os.pathsep}{path}" if tools else path,
        }

    @property
    def _pull_policy(self) -> str:
        """Whether a node asks the registry again: the tag is the same for every build."""
        return "Always" if self._foreign else "IfNotPresent"

    def write_environment(self) -> Path:
        """Write what a shell needs to look at the demo, and return the file to ``source``.

        It is a file rather than a command: this project's programs are on nobody's PATH. On PATH
        come only links to those that are needed, since the virtual environment has a Python, too.
        """
        programs = [Path(sys.executable).with_name("kubectl-mdb")]
        tools = self.provider.tools()
        if tools is not None:  # on kind it has what is not on PATH
            programs += [tools / name for name in ("kubectl", "helm") if (tools / name).exists()]
        shutil.rmtree(settings.DIRECTORY, ignore_errors=True)
        links = settings.DIRECTORY / "bin"
        links.mkdir(mode=0o700, parents=True)
        for program in programs:
            (links / program.name).symlink_to(program)
        environment = settings.DIRECTORY / "env"
        environment.write_text(
            "# kubectl, kubectl mdb and helm for the demo's cluster\n"
            f"export KUBECONFIG={shlex.quote(str(self.provider.kubeconfig()))}\n"
            f"export PATH={shlex.quote(str(links))}:$PATH\n"
        )
        return environment

    def run(self, *command: str, timeout: float = 300) -> str:
        """Run kubectl or helm and return what it prints.

        Raises
        ------
        click.ClickException
            If it fails; with what it said.
        """
        outcome = subprocess.run(
            command,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if outcome.returncode != 0:
            said = (outcome.stderr.strip() or outcome.stdout.strip()).splitlines()[-8:]
            raise click.ClickException(" ".join(command[:6]) + " ... failed:\n" + "\n".join(said))
        return outcome.stdout

    def runs(self) -> bool:
        """Say whether everything is installed and ready already."""
        if not self.provider.status().healthy:
            return False
        wanted = {settings.SYSTEM: [settings.RELEASE], settings.SHOP: list(settings.FORWARDS)}
        try:
            return all(
                int(self._deployment(namespace, name, "{.status.readyReplicas}") or 0) > 0
                for namespace, names in wanted.items()
                for name in names
            )
        except click.ClickException:
            return False

    def install(self) -> None:
        """Do all steps; each finds out by itself whether there is something to do."""
        self.provider.up()
        if self._foreign:
            self._claim_namespaces()
        builds, mongo_image = self._provide_images()
        with self._progress.step("Installing the operator with Helm"):
            self._clear_interrupted_release()
            self._helm_install(mongo_image, builds[settings.OPERATOR_IMAGE])
        with self._progress.step("Applying examples/multi_app/k8s"):
            self._apply_apps(builds[settings.EXAMPLE_IMAGE])
        with self._progress.step("Waiting until both MdbApps are Ready"):
            self.run(
                *("kubectl", "-n", settings.SHOP, "wait", "--for=condition=Ready"),
                *("--timeout=120s", "mdbapps", "--all"),
            )
        with self._progress.step("Waiting until the pods of both apps are ready"):
            for name in settings.FORWARDS:
                self.run(
                    *("kubectl", "-n", settings.SHOP, "rollout", "status"),
                    *(f"deployment/{name}", "--timeout=180s"),
                )

    def remove(self) -> bool:
        """Remove the cluster, or from a cluster of the user's what the demo has made there.

        Returns
        -------
        bool
            Whether there was anything.
        """
        if not self._foreign:
            return self.provider.down()
        ours = [name for name in (settings.SYSTEM, settings.SHOP) if self._is_ours(name)]
        if not ours:
            return False
        with self._progress.step(f"Removing the demo from the namespaces {' and '.join(ours)}"):
            if self._is_ours(settings.SHOP):  # while the operator is there to let them go
                self.run("kubectl", "-n", settings.SHOP, "delete", "mdbapps", "--all")
            self.run(
                *("helm", "uninstall", settings.RELEASE, "-n", settings.SYSTEM),
                *("--ignore-not-found", "--wait"),
            )
            self.run("kubectl", "delete", "namespace", *ours)
        self._progress.note("The CRD stays: deleting it would delete all MdbApps of the cluster")
        return True

    def _claim_namespaces(self) -> None:
        """Make both namespaces, so that no other is ever removed with the demo.

        Raises
        ------
        click.ClickException
            If one is there and somebody else's.
        """
        for name in (settings.SYSTEM, settings.SHOP):
            if self._is_ours(name):
                continue
            if self.run("kubectl", "get", "namespace", name, "--ignore-not-found"):
                raise click.ClickException(
                    f"the namespace {name} is there already, and not the demo's; choose others: "
                    "DEMO_SYSTEM=mdb-demo-system DEMO_SHOP=mdb-demo-shop make demo"
                )
            self.run("kubectl", "create", "namespace", name)
            self.run("kubectl", "label", "namespace", name, f"{settings.LABEL}=true")

    def _is_ours(self, namespace: str) -> bool:
        selector = ("-l", settings.LABEL, "-o", "name")
        listed = self.run("kubectl", "get", "namespaces", *selector).splitlines()
        return f"namespace/{namespace}" in listed

    def _deployment(self, namespace: str, name: str, path: str) -> str:
        query = ("get", "deployment", name, "-o", f"jsonpath={path}")
        return self.run("kubectl", "-n", namespace, *query, timeout=20).strip()

    def _provide_images(self) -> tuple[dict[str, str], str]:
        """Build the images and bring those that changed to where the cluster finds them.

        Returns
        -------
        tuple
            The id of the build by image, and the image of MongoDB.
        """
        builder = images.choose_builder(self._progress)
        specs = [
            ImageSpec(
                tag=settings.OPERATOR_IMAGE,
                context=settings.ROOT,
                dockerfile=settings.ROOT / "operator/Dockerfile",
            ),
            ImageSpec(
                tag=settings.EXAMPLE_IMAGE,
                context=settings.ROOT,
                dockerfile=settings.ROOT / "examples/multi_app/Dockerfile",
            ),
        ]
        mongo_image = MONGO_IMAGE_OF_THE_REGISTRY
        if isinstance(builder, BuildahBuilder) or (
            isinstance(builder, DockerBuilder) and builder.base
        ):
            # Perhaps no registry is in reach: take the binary that the tests use.
            mongo_image = settings.MONGOD_IMAGE
            specs.append(
                ImageSpec(
                    tag=mongo_image,
                    context=find_mongod(self._progress.note).parent,
                    dockerfile=settings.ROOT / "tests/cluster/images/mongod/Dockerfile",
                )
            )
        builds = {}
        annotations = {} if self._foreign else self._loaded_images()
        for spec in specs:
            images.build(spec, self._progress, builder)
            builds[spec.tag] = build = _build_of(builder, spec.tag)
            if self._foreign:
                images.push(spec.tag, self._progress, builder)
                continue
            note = LOADED + spec.tag.rpartition("/")[2].partition(":")[0]
            if annotations.get(note) != build:
                images.load(spec.tag, self.provider.load_image, self._progress, builder)
                self.run("kubectl", "annotate", "nodes", "--all", "--overwrite", f"{note}={build}")
        return builds, mongo_image

    def _loaded_images(self) -> dict[str, str]:
        """Return the annotations of the node, which say what was loaded into it."""
        node = json.loads(self.run("kubectl", "get", "nodes", "-o", "json"))["items"][0]
        found: dict[str, str] = node["metadata"].get("annotations", {})
        return found

    def _clear_interrupted_release(self) -> None:
        """Remove a release whose installation was killed; helm would wait for it for good."""
        listed = self.run("helm", "list", "-n", settings.SYSTEM, "--pending", "-o", "json")
        if json.loads(listed):
            self.run("helm", "uninstall", settings.RELEASE, "-n", settings.SYSTEM, "--no-hooks")

    def _helm_install(self, mongo_image: str, build: str) -> None:
        repository, _, tag = settings.OPERATOR_IMAGE.rpartition(":")
        values = {
            "image.repository": repository,
            "image.tag": tag,
            # The tag is always the same; a new build is to be run all the same.
            "podAnnotations.build": f"b-{build}",
            "mongodb.trial.enabled": "true",
            "mongodb.trial.image": mongo_image,
            "image.pullPolicy": self._pull_policy,
        }
        if self._foreign:  # whose other namespaces are none of the demo's business
            values["watchNamespaces"] = f"{{{settings.SHOP}}}"
        self.run(
            *("helm", "upgrade", "--install", settings.RELEASE),
            str(settings.ROOT / "charts/mdb-operator"),
            *("--namespace", settings.SYSTEM, "--create-namespace", "--wait", "--timeout", "4m"),
            *(part for key, value in values.items() for part in ("--set", f"{key}={value}")),
        )

    def _apply_apps(self, build: str) -> None:
        """Apply ``k8s/`` by an overlay that names the image, as one would for a registry's."""
        repository, _, tag = settings.EXAMPLE_IMAGE.rpartition(":")
        container = {"name": "app", "imagePullPolicy": self._pull_policy}
        template = {
            "metadata": {"annotations": {"build": f"b-{build}"}},
            "spec": {"containers": [container]},
        }
        patch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "any"}}
        patch["spec"] = {"template": template}
        manifests = settings.ROOT / "examples/multi_app/k8s"
        with tempfile.TemporaryDirectory(prefix="mdb-demo-") as name:
            base = os.path.relpath(manifests, Path(name).resolve())  # kustomize takes no other
            overlay = {
                "namespace": settings.SHOP,
                "resources": [base],
                "images": [{"name": "mdb-example", "newName": repository, "newTag": tag}],
                "patches": [{"target": {"kind": "Deployment"}, "patch": json.dumps(patch)}],
            }
            (Path(name) / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
            self.run("kubectl", "apply", "-k", name)


def _build_of(builder: Builder, tag: str) -> str:
    """Return the beginning of an image's id, which is equal for equal content."""
    if isinstance(builder, BuildahBuilder):
        command = [*buildah(), "images", "--quiet", "--no-trunc", tag]
    else:
        command = ["docker", "image", "inspect", "--format", "{{.Id}}", tag]
    found = run(command, what=f"Looking at {tag}", timeout=60)
    return found.strip().removeprefix("sha256:")[:16]
