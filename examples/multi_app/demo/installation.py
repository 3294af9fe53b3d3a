"""From nothing to both apps ready: cluster, images, Helm release, ``kubectl apply``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

import click
import settings

from devcluster import images, providers
from devcluster.images import ImageSpec
from devcluster.mongod_binary import find_mongod
from devcluster.progress import Progress
from devcluster.provider import Provider

MONGO_IMAGE_OF_THE_REGISTRY = "mongo:8"


class Installation:
    """The demo's cluster and what runs on it.

    Parameters
    ----------
    progress
        Shows what is done.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.provider: Provider = providers.select(settings.CLUSTER, progress)

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
        try:
            ready = self.run(
                *("kubectl", "-n", settings.SHOP, "get", "deployments"),
                *("-o", "jsonpath={.items[*].status.readyReplicas}"),
                timeout=20,
            )
        except click.ClickException:
            return False
        return ready.split() == ["1", "1"]

    def install(self) -> None:
        """Do all steps; each finds out by itself whether there is something to do."""
        self.provider.up()
        mongo_image = self._load_images()
        with self._progress.step("Installing the operator with Helm"):
            self._helm_install(mongo_image)
        with self._progress.step("Applying examples/multi_app/k8s"):
            manifests = settings.ROOT / "examples/multi_app/k8s"
            self.run("kubectl", "apply", "-k", str(manifests))
            for name in settings.FORWARDS:
                self.run(
                    *("kubectl", "-n", settings.SHOP, "set", "image", f"deployment/{name}"),
                    f"app={settings.EXAMPLE_IMAGE}",
                )
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

    def _load_images(self) -> str:
        """Build and load the images; return the one of MongoDB."""
        builder = images.choose_builder(self._progress)
        specs = [
            ImageSpec(
                tag=":".join(settings.OPERATOR_IMAGE),
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
        if isinstance(builder, images.BuildahBuilder):
            # No Docker, so perhaps no registry either: take the binary that the tests use.
            mongo_image = settings.MONGOD_IMAGE
            specs.append(
                ImageSpec(
                    tag=mongo_image,
                    context=find_mongod(self._progress.note).parent,
                    dockerfile=settings.ROOT / "tests/cluster/images/mongod/Dockerfile",
                )
            )
        for spec in specs:
            images.build(spec, self._progress, builder)
            images.load(spec.tag, self.provider.load_image, self._progress, builder)
        return mongo_image

    def _helm_install(self, mongo_image: str) -> None:
        repository, tag = settings.OPERATOR_IMAGE
        values = {
            "image.repository": repository,
            "image.tag": tag,
            "mongodb.trial.enabled": "true",
            "mongodb.trial.image": mongo_image,
        }
        self.run(
            *("helm", "upgrade", "--install", settings.RELEASE),
            str(settings.ROOT / "charts/mdb-operator"),
            *("--namespace", settings.SYSTEM, "--create-namespace", "--wait", "--timeout", "4m"),
            *(part for key, value in values.items() for part in ("--set", f"{key}={value}")),
        )
