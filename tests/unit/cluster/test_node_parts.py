"""Addresses, certificates, identities and archives of the single node."""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import socket
import ssl
import subprocess
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from devcluster.errors import DevclusterError
from devcluster.node import cleanup, kubeconfig, pki, record, sandbox
from devcluster.node.addresses import MAX_CLUSTERS, NodeNetwork, check_port
from devcluster.node.layout import Layout
from devcluster.node.processes import ProcessId, boot_id
from devcluster.node.record import Kind, Record
from devcluster.paths import check_name


def networks_of(index: int) -> list[ipaddress.IPv4Network]:
    network = NodeNetwork(index)
    return [network.link_network, network.pods, network.services]


def test_no_two_nodes_share_addresses() -> None:
    everything = [part for index in range(MAX_CLUSTERS) for part in networks_of(index)]
    for one, other in itertools.pairwise(sorted(everything)):
        assert not one.overlaps(other)
    assert all(len(NodeNetwork(index).link) <= 15 for index in range(MAX_CLUSTERS))


def test_addresses_that_the_machine_routes_elsewhere_are_left_alone() -> None:
    office = ipaddress.IPv4Network("10.232.0.0/23")  # the pods of the first two
    assert NodeNetwork.choose([]).index == 0
    assert NodeNetwork.choose([office]).index == 2
    assert NodeNetwork.choose([office, NodeNetwork(2).link_network]).index == 3


def test_when_all_addresses_are_in_use_it_says_so() -> None:
    with pytest.raises(DevclusterError, match="All networks for a node") as caught:
        NodeNetwork.choose([ipaddress.IPv4Network("10.0.0.0/8")])
    assert "devcluster down" in caught.value.hint


def test_a_taken_port_is_named() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with pytest.raises(DevclusterError, match=f"Port {port}.*in use"):
            check_port(port)


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a_b", "-a", "a-", "a" * 25])
def test_a_name_that_cannot_be_part_of_a_host_name_is_refused(name: str) -> None:
    with pytest.raises(DevclusterError, match="cannot name a cluster"):
        check_name(name)


def test_certificates_are_checked_by_tls_both_ways(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    authority = pki.Authority.create(layout, layout.ca, "ca")
    server = authority.issue(layout, layout.pair("server"), "api", names=["localhost"])
    client = authority.issue(layout, layout.pair("client"), "me", groups=["system:masters"])

    def context(purpose: ssl.Purpose, certificate: Path, key: Path) -> ssl.SSLContext:
        made = ssl.create_default_context(purpose, cafile=str(layout.ca.certificate))
        made.load_cert_chain(certificate, key)
        return made

    serving = context(ssl.Purpose.CLIENT_AUTH, server.certificate, server.key)
    serving.verify_mode = ssl.CERT_REQUIRED
    calling = context(ssl.Purpose.SERVER_AUTH, client.certificate, client.key)
    ours, theirs = socket.socketpair()
    seen: list[object] = []

    def serve() -> None:
        with serving.wrap_socket(theirs, server_side=True) as connection:
            seen.append(connection.getpeercert())
            connection.send(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    with calling.wrap_socket(ours, server_hostname="localhost") as connection:
        assert connection.recv(1) == b"x"
    thread.join(10)
    subject = (("organizationName", "system:masters"),), (("commonName", "me"),)
    assert seen[0]["subject"] == subject  # type: ignore[index]


def test_a_client_s_certificate_cannot_pose_as_a_server(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    authority = pki.Authority.create(layout, layout.ca, "ca")
    pair = authority.issue(layout, layout.pair("client"), "me")
    certificate = x509.load_pem_x509_certificate(pair.certificate.read_bytes())
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_keys_and_kubeconfigs_are_private(tmp_path: Path) -> None:
    os.umask(os.umask(0o022))  # whatever the user's is
    layout = Layout(tmp_path / "root")
    authority = pki.Authority.create(layout, layout.ca, "ca")
    identity = authority.issue(layout, layout.pair("admin"), "admin")
    kubeconfig.write(layout, "admin", "https://127.0.0.1:1", identity, "devcluster")
    pki.write_signing_key(layout, layout.pair("tokens"))
    files = [path for path in layout.root.rglob("*") if path.is_file()]
    assert len(files) == 7
    for path in files:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DevclusterError, match=r"Cannot write .*file/cluster\.json"):
        Layout(tmp_path / "file").write(tmp_path / "file" / "cluster.json", "x")


def test_a_process_is_known_by_more_than_its_number() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        identity = ProcessId.of(process.pid)
        assert identity is not None
        assert identity.alive()
        assert not ProcessId(process.pid, identity.started + 1).alive()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not identity.alive(), "a zombie is not alive"


def test_a_cluster_does_not_outlive_the_machine_s_start(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    this_process = ProcessId.of(os.getpid())
    assert this_process is not None
    for boot, runs in ((boot_id(), True), ("another", False)):
        known = Record(Kind.NODE, boot, this_process, "https://10.231.0.2:6443", 0, "v1.34.4")
        record.save(layout, known)
        assert record.load(layout) == known
        assert known.runs() is runs


def test_only_the_cluster_s_own_processes_belong_to_it(tmp_path: Path) -> None:
    root = tmp_path / "cluster-a"
    (tmp_path / "bin" / "kubernetes-1").mkdir(parents=True)
    etcd = tmp_path / "bin" / "kubernetes-1" / "etcd"
    etcd.symlink_to("/bin/sh")
    # The shell stays, as its command is not the last one.
    script = "read line; true"
    commands = {
        "its component": [str(etcd), "-c", script, f"--data-dir={root}/etcd"],
        "another cluster's": [str(etcd), "-c", script, f"--data-dir={root}-b/etcd"],
        "somebody reading a log": ["sh", "-c", script, f"{root}/logs/etcd.log"],
    }
    started = {
        name: subprocess.Popen(command, stdin=subprocess.PIPE) for name, command in commands.items()
    }
    try:
        found = {process.pid for process in cleanup.processes(root)}
        assert found == {started["its component"].pid}
    finally:
        for process in started.values():
            process.communicate()


def test_the_sandbox_image_is_a_docker_archive_of_one_program(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"program")
    with tarfile.open(sandbox.write_archive(tmp_path / "image.tar", program)) as archive:

        def read(name: str) -> bytes:
            member = archive.extractfile(name)
            assert member is not None
            return member.read()

        (manifest,) = json.loads(read("manifest.json"))
        assert manifest["RepoTags"] == [sandbox.IMAGE]
        config = json.loads(read(manifest["Config"]))
        assert config["config"]["Entrypoint"] == ["/pause"]
        (tmp_path / "layer.tar").write_bytes(read(manifest["Layers"][0]))
    with tarfile.open(tmp_path / "layer.tar") as layer:
        assert [(entry.name, entry.mode) for entry in layer] == [("pause", 0o755)]
