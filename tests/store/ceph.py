"""A real S3 server: Ceph's gateway over one OSD in memory, as Debian packages it.

    apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common
    make s3-real

Its data are gone when it is stopped.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from raffect.testing.ports import free_ports
from raffect.testing.s3 import S3Server

PROGRAMS = (
    "ceph-mon",
    "ceph-osd",
    "ceph",
    "radosgw",
    "radosgw-admin",
    "ceph-authtool",
    "monmaptool",
)
START_TIMEOUT_S = 120.0
_KEYS = {
    "mon.": ["mon"],
    "client.admin": ["mon", "mgr", "osd"],
    "osd.0": ["mon", "mgr", "osd"],
}
_SETTINGS = """
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon}
public_addr = 127.0.0.1
keyring = {folder}/keyring
mon_allow_pool_size_one = true
mon_data = {folder}/mon
mon_data_avail_crit = 1
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 2147483648
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 2
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
run_dir = {folder}
admin_socket = {folder}/$name.$pid.asok
log_file = {folder}/$name.log
rgw_frontends = beast endpoint=127.0.0.1:{gateway}
"""


@dataclass
class CephServer(S3Server):
    """Its gateway is `process`; `others` are what that stands on."""

    folder: Path
    others: list[subprocess.Popen[bytes]]

    def user_who_may(self, *actions: str) -> dict[str, str]:
        pytest.skip("the gateway's users have no policies of their own")

    def stop(self) -> None:
        for process in (self.process, *reversed(self.others)):
            process.kill()
            process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)


def start_ceph_server(folder: Path) -> CephServer:
    """Start it, with one user; it takes about 10 s. RuntimeError if a program is missing."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise RuntimeError(f"{', '.join(missing)} not found: see {Path(__file__).name}")
    mon, gateway = free_ports(2)
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    for name in ("mon", "osd"):
        (folder / name).mkdir(parents=True)
    settings, monmap, keyring = (folder / name for name in ("ceph.conf", "monmap", "keyring"))
    settings.write_text(_SETTINGS.format(fsid=fsid, mon=mon, gateway=gateway, folder=folder))
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str) -> None:
        subprocess.run([*command], check=True, timeout=START_TIMEOUT_S, stdout=subprocess.DEVNULL)

    def start(*command: str) -> subprocess.Popen[bytes]:
        log = (folder / f"{command[0]}.out").open("wb")
        started.append(subprocess.Popen([*command, "-f"], stdout=log, stderr=log))
        return started[-1]

    conf = ("-c", str(settings))
    key, secret = f"AKIA{secrets.token_hex(8).upper()}", secrets.token_hex(20)
    endpoint = f"http://127.0.0.1:{gateway}"
    try:
        address = f"[v2:127.0.0.1:{mon}]"
        run("monmaptool", "--create", "--addv", "a", address, "--fsid", fsid, str(monmap))
        run("ceph-authtool", "--create-keyring", str(keyring))
        for name, parts in _KEYS.items():
            rights = [word for part in parts for word in ("--cap", part, "allow *")]
            run("ceph-authtool", str(keyring), "--gen-key", "-n", name, *rights)
        given = ("--monmap", str(monmap), "--keyring", str(keyring))
        run("ceph-mon", *conf, "--mkfs", "-i", "a", *given)
        start("ceph-mon", *conf, "-i", "a")
        run("ceph", *conf, "osd", "new", osd)
        run("ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
        start("ceph-osd", *conf, "-i", "0")
        gateway_process = start("radosgw", *conf, "-n", "client.admin")
        _wait_for(lambda: _answers(endpoint), started)
        user = ("--uid", "raffect", "--display-name", "raffect")
        keys = ("--access-key", key, "--secret-key", secret)
        run("radosgw-admin", *conf, "user", "create", *user, *keys)
    except BaseException:
        for process in started:
            process.kill()
        raise
    return CephServer(endpoint, key, secret, gateway_process, folder, started[:-1])


def _answers(endpoint: str) -> bool:
    with suppress(OSError):
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except urllib.error.HTTPError:
            return True
        return True
    return False


def _wait_for(is_so: Callable[[], bool], processes: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until and all(process.poll() is None for process in processes):
        if is_so():
            return
        time.sleep(0.2)
    raise RuntimeError("Ceph did not start.")
