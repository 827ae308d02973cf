"""Who is measured: how each is installed, pinned, set up and started. All serve the same two replicas.

Each peer does what its maker's defaults make it do, less what would only cost it here: the routers spread by round
robin, not by prefix, and log errors only; nginx neither buffers nor logs; LiteLLM has its one master key and keeps no
accounts. Ours runs with keys, ledger, metrics and request log.
"""

import getpass
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from secondsource import __version__
from secondsource.benchmarking.tools import cache_directory, find_tool
from secondsource.core.errors import SecondsourceError

KEY = "sk-ss-bench-4f7c1e0b9a2d4c36a5b81d20"  # a long one: LiteLLM refuses to start with a weak key
INSTALL_WITHIN_S = 900.0
DIRECT, OURS, BASELINE = "none", "secondsource", "vllm-router"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where one gateway listens, what it may write to, and the replicas it serves."""

    port: int
    spare_port: int  # for a second listener: metrics, admin
    directory: Path
    replicas: tuple[str, ...]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """A command, and what its environment holds besides ours."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = {}


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One gateway: `package` is what pip installs for it, or nothing."""

    name: str
    package: str | None
    version: Callable[[], str]
    start: Callable[[Place], Start]


def environment_of(package: str) -> Path:
    """Return the directory of the package's own virtual environment."""
    return cache_directory() / package.replace("[", "-").replace("]", "").replace("==", "-")


def install(package: str) -> None:
    """Make the package's virtual environment where it is not there yet; SecondsourceError if pip fails."""
    home = environment_of(package)
    if (home / "complete").exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin" / "pip"), "install", "--quiet", "--only-binary", ":all:", package],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False)
        if done.returncode:
            raise SecondsourceError(f"{package} cannot be installed: {done.stderr.strip()[-400:]}")
    (home / "complete").touch()


def _pinned(package: str) -> Callable[[], str]:
    return lambda: package.partition("==")[2]


def _program(package: str, name: str) -> str:
    return str(environment_of(package) / "bin" / name)


_VLLM_ROUTER = "vllm-router==0.1.17"
_SGLANG_ROUTER = "sglang-router==0.3.2"
_LITELLM = "litellm[proxy]==1.106.2"


def _start_vllm_router(place: Place) -> Start:
    listen = ("--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(place.spare_port))
    spread = ("--worker-urls", *place.replicas, "--policy", "round_robin", "--log-level", "error")
    return Start(command=(_program(_VLLM_ROUTER, "vllm-router"), *listen, *spread))


def _start_sglang_router(place: Place) -> Start:
    listen = ("--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(place.spare_port))
    spread = ("--worker-urls", *place.replicas, "--policy", "round_robin", "--log-level", "error")
    return Start(command=(_program(_SGLANG_ROUTER, "sglang-router"), "launch", *listen, *spread))


def _start_litellm(place: Place) -> Start:
    models = [
        {"model_name": "m", "litellm_params": {"model": "openai/m", "api_base": f"{url}/v1", "api_key": KEY}}
        for url in place.replicas
    ]
    config = place.directory / "litellm.yaml"
    config.write_text(json.dumps({"model_list": models}), "utf-8")  # JSON is YAML
    listen = ("--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1", "--telemetry", "False")
    settings = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # it asks the network for prices otherwise
        "LITELLM_LOG": "ERROR",
        "LITELLM_MASTER_KEY": KEY,  # it does not start without one
    }
    return Start(command=(_program(_LITELLM, "litellm"), "--config", str(config), *listen), environment=settings)


_NGINX = """
daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr error; {user}
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  client_body_buffer_size 1m; client_max_body_size 64m; keepalive_requests 100000000;
  upstream replicas {{ {servers} keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://replicas; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""


def _nginx_version() -> str:
    said = subprocess.run([find_tool("nginx"), "-v"], capture_output=True, text=True, check=False)
    return said.stderr.strip().rpartition("/")[2]


def _start_nginx(place: Place) -> Start:
    user = getpass.getuser()
    config = place.directory / "nginx.conf"
    config.write_text(
        _NGINX.format(
            directory=place.directory,
            port=place.port,
            servers=" ".join(f"server {url.removeprefix('http://')};" for url in place.replicas),
            user="user root;" if user == "root" else "",  # its worker must reach our directory
        ),
        "utf-8",
    )
    return Start(command=(find_tool("nginx"), "-p", str(place.directory), "-c", str(config)))


_FLEET = """
[gateway]
port = {port}
state_dir = {state}

[admin]
port = {spare_port}

[[lanes]]
name = "paid"

[[keys]]
sha256 = "{sha256}"
tenant = "bench"
lane = "paid"
"""

_POOL = """
[suppliers.supplier-{number}]

[[pools]]
name = "pool-{number}"
supplier = "supplier-{number}"
chip = "h100-sxm"
usd_per_chip_hour = 2.5
model = "m"
upstream_model = "m"
replicas = ["{url}"]
continuation = "prefill"
"""


def fleet_file(place: Place) -> str:
    """Return our own fleet file: two suppliers, a hashed key, everything on."""
    head = _FLEET.format(
        port=place.port,
        spare_port=place.spare_port,
        state=json.dumps(str(place.directory / "state")),
        sha256=hashlib.sha256(KEY.encode("ascii")).hexdigest(),
    )
    return head + "".join(_POOL.format(number=number, url=url) for number, url in enumerate(place.replicas))


def _start_ours(place: Place) -> Start:
    fleet = place.directory / "fleet.toml"
    fleet.write_text(fleet_file(place), "utf-8")
    return Start(command=(sys.executable, "-m", "secondsource", "up", str(fleet)))


def our_version() -> str:
    """Return our version; in a checkout, with the last commit to what serves, and whether it was changed since."""
    commit = _git("log", "-1", "--format=%h")
    if not commit:
        return __version__
    return f"{__version__} ({commit}{', changed since' if _git('status', '--porcelain') else ''})"


def _git(*words: str) -> str:
    here = Path(__file__).parents[1]
    command = ["git", "-C", str(here), *words, "--", "gateway", "policy", "core"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


PEERS = (
    Peer(name="nginx", package=None, version=_nginx_version, start=_start_nginx),
    Peer(name=BASELINE, package=_VLLM_ROUTER, version=_pinned(_VLLM_ROUTER), start=_start_vllm_router),
    Peer(name="sglang-router", package=_SGLANG_ROUTER, version=_pinned(_SGLANG_ROUTER), start=_start_sglang_router),
    Peer(name="litellm", package=_LITELLM, version=_pinned(_LITELLM), start=_start_litellm),
    Peer(name=OURS, package=None, version=our_version, start=_start_ours),
)


def require(peer: Peer) -> str | None:
    """Make the peer ready to start; return why it cannot take part, or None."""
    try:
        if peer.package is not None:
            install(peer.package)
        elif peer.name == "nginx":
            find_tool("nginx")
    except SecondsourceError as error:
        return str(error)
    return None
