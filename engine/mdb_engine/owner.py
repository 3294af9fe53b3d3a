"""Whose an app is: needed by the errors and by the models, which need the errors."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Owner"]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose an app is.

    Parameters
    ----------
    namespace
        The namespace of its MdbApp, or an empty string for apps that register themselves, which
        no Kubernetes namespace can be called: these count as one namespace.
    name
        The name of its MdbApp, or the slug of an app that registered itself.
    uid
        The UID of its MdbApp: an object of the same name made later is another object.
    """

    namespace: str
    name: str
    uid: str

    @classmethod
    def standalone(cls, slug: str) -> Owner:
        """Return the owner of an app that registers itself, without Kubernetes."""
        return cls(namespace="", name=slug, uid="standalone")

    @property
    def is_standalone(self) -> bool:
        """Whether the app registers itself, without Kubernetes."""
        return not self.namespace
