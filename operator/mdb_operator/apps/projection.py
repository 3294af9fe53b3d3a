"""What stands in an app's Kubernetes Secret. Pure.

The keys are the Service Binding specification's where it has one, and always all there. The URI is
made from the address that apps reach MongoDB by; with ``isolation: database`` each app has a user
of its own in it, with ``isolation: library`` they share the operator's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import SecretStr

from mdb_engine.core.secret import RevealedSecrets
from mdb_engine.registry.models.privileges import user_name, user_subject
from mdb_operator.apps.conditions import Isolation
from mdb_operator.constants import MANAGER
from mdb_operator.mongodb.certificates import Certificates

__all__ = ["Address", "projected_data"]

FILE_OPTIONS = frozenset(
    {
        "tlscafile",
        "tlscertificatekeyfile",
        "tlscertificatekeyfilepassword",
        "tlscrlfile",
        "ssl_ca_certs",
        "ssl_certfile",
        "ssl_keyfile",
    }
)
"""Options of a URI that name files of the operator's pod, which apps do not have."""

LOGIN_OPTIONS = frozenset({"authmechanism", "authmechanismproperties"})
"""Options of a URI that say how the operator logs in; its apps do it in their own way."""

DEFAULT_PORT = "27017"
"""MongoDB's, where a connection string names none."""

NO_CERTIFICATES = Certificates()


@dataclass(frozen=True, slots=True)
class Address:
    """Where apps reach MongoDB, and as whom where they share a user."""

    scheme: str  # ``mongodb`` or ``mongodb+srv``
    hosts: str  # with ports, separated by commas
    options: tuple[tuple[str, str], ...]  # without ``authSource``
    database: str
    isolation: Isolation
    username: str = ""  # the shared user, empty where there is none
    password: SecretStr = field(default=SecretStr(""))
    auth_source: str = ""

    @classmethod
    def parse(
        cls,
        operator_uri: SecretStr,
        apps_uri: SecretStr | None,
        database: str,
        isolation: Isolation,
    ) -> Address:
        """Read it from the operator's own URI and the one of the apps, where that differs."""
        own = urlsplit(operator_uri.get_secret_value())
        credentials, _, _ = own.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        # Names of options mean the same in any case, and one may stand there several times.
        options = {name.lower(): value for name, value in parse_qsl(own.query)}
        auth_source = options.get("authsource") or unquote(own.path.strip("/")) or "admin"
        public = urlsplit(apps_uri.get_secret_value()) if apps_uri else own
        shown = parse_qsl(public.query, keep_blank_values=True)
        hidden = {"authsource", *FILE_OPTIONS}
        if isolation == "database":
            hidden |= LOGIN_OPTIONS
        return cls(
            scheme=public.scheme,
            hosts=public.netloc.rpartition("@")[2],
            options=tuple(one for one in shown if one[0].lower() not in hidden),
            database=database,
            isolation=isolation,
            username=unquote(username),
            password=SecretStr(unquote(password)),
            auth_source=auth_source if username else "",
        )

    @property
    def first_host(self) -> dict[str, str]:
        """``host`` and ``port`` of the first member, as Service Binding has them."""
        if self.scheme.endswith("+srv"):
            return {}
        name, port = _host_and_port(self.hosts.split(",")[0])
        return {"host": name.strip("[]"), "port": port}

    def user(self, revealed: RevealedSecrets) -> tuple[str, SecretStr, str]:
        """Return the user, password and authentication database of an app."""
        if self.isolation == "library":
            return self.username, self.password, self.auth_source
        current, slug = revealed.current, revealed.slug
        if current.client_certificate is not None:
            subject = user_subject(self.database, slug, current.version, revealed.incarnation)
            return subject, SecretStr(""), "$external"
        return user_name(slug, current.version), current.database_password, self.database

    def uri(self, revealed: RevealedSecrets, *, tls: bool = False) -> str:
        """Return the connection string of an app, which may have to demand TLS."""
        username, password, auth_source = self.user(revealed)
        options = list(self.options)
        if tls and not {"tls", "ssl"} & {name.lower() for name, _ in options}:
            options.append(("tls", "true"))
        login = ""
        if auth_source == "$external" and self.isolation == "database":
            # MongoDB takes the user from the certificate.
            options += [("authMechanism", "MONGODB-X509"), ("authSource", auth_source)]
        elif username:
            login = f"{quote(username, safe='')}:{quote(password.get_secret_value(), safe='')}@"
            options.append(("authSource", auth_source))
        # PyMongo takes the tags of a read preference as they are, without decoding them.
        query = f"?{urlencode(options, safe=':,')}" if options else ""
        return f"{self.scheme}://{login}{self._authority}/{quote(self.database, safe='')}{query}"

    @property
    def _authority(self) -> str:
        """Return the hosts; of several without the port that is meant anyway.

        RFC 3986 has no list of ports, but a list of names is one: a URI with it can be parsed.
        """
        hosts = [_host_and_port(one) for one in self.hosts.split(",")]
        if len(hosts) > 1 and all(port == DEFAULT_PORT for _, port in hosts):
            return ",".join(name for name, _ in hosts)
        return self.hosts


def _host_and_port(text: str) -> tuple[str, str]:
    """Split a host of a connection string; an IPv6 address keeps its brackets."""
    name, colon, port = text.rpartition(":")
    return (name, port) if colon and port.isdigit() else (text, DEFAULT_PORT)


def projected_data(
    address: Address, revealed: RevealedSecrets, certificates: Certificates = NO_CERTIFICATES
) -> dict[str, str]:
    """Return the value of every key of the projected Secret."""
    username, password, _ = address.user(revealed)
    current, previous = revealed.current, revealed.previous
    client = certificates.client.get_secret_value()
    if current.client_certificate is not None and address.isolation == "database":
        client = current.client_certificate.get_secret_value()
    return {
        "type": "mongodb",
        "provider": MANAGER,
        "uri": address.uri(revealed, tls=bool(certificates.authorities or client)),
        **address.first_host,
        "database": address.database,
        "username": username,
        "password": password.get_secret_value(),
        "app-slug": revealed.slug,
        "app-secret": current.token.get_secret_value(),
        "app-secret-previous": previous.token.get_secret_value() if previous else "",
        "session-key": current.session_key.get_secret_value(),
        "session-key-previous": previous.session_key.get_secret_value() if previous else "",
        "secret-version": str(revealed.version),
        "certificates": certificates.authorities,
        "client-certificate": client,
    }
