"""What the parts of a fleet must not say together: duplicates, names of nothing, open doors.

Pure, and on the records alone, so that a fleet which was built or changed in code (a flag that overrides the
listener's host) is held to the same rules as one that was read from a file.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from secondsource.core.addresses import host_and_port, is_every_interface, is_loopback
from secondsource.core.errors import InputError
from secondsource.core.fleet import Fleet, Listener
from secondsource.core.strict_toml import suggestion
from secondsource.core.toml_lines import KeyPath, show_path


class Contradiction(msgspec.Struct, frozen=True):
    """One thing that cannot stand: the key in the fleet file, what is wrong there and what to do."""

    path: KeyPath
    message: str


def contradictions(fleet: Fleet) -> list[Contradiction]:
    """Return everything in `fleet` that cannot stand together with the rest, in the order of the checks."""
    return [found for check in _CHECKS for found in check(fleet)]


def require_consistent(fleet: Fleet, origin: str) -> None:
    """Raise `InputError` with every contradiction of `fleet`; `origin` says where the fleet comes from."""
    found = [f"{origin}: {show_path(each.path)}: {each.message}" for each in contradictions(fleet)]
    if found:
        raise InputError("\n".join(found))


def require_reloadable(running: Fleet, fleet: Fleet, origin: str) -> None:
    """Raise `InputError` for what only a new start can change."""
    fixed = (
        ("gateway.host", running.gateway.host, fleet.gateway.host),
        ("gateway.port", running.gateway.port, fleet.gateway.port),
        ("gateway.workers", running.workers, fleet.workers),
        ("gateway.state_dir", running.state_dir, fleet.state_dir),
        ("gateway.pump", running.pump, fleet.pump),
        ("admin.host", running.admin.host, fleet.admin.host),
        ("admin.port", running.admin.port, fleet.admin.port),
        ("tracing.endpoint", running.tracing.endpoint, fleet.tracing.endpoint),
        ("tracing.service_name", running.tracing.service_name, fleet.tracing.service_name),
    )
    changed = [
        f"{origin}: {key}: {new} takes a new start, and {old} is running; restart, or put it back"
        for key, old, new in fixed
        if old != new
    ]
    if changed:
        raise InputError("\n".join(changed))


def _duplicate_names(fleet: Fleet) -> Iterator[Contradiction]:
    yield from _repeated("pools", "name", [pool.name for pool in fleet.pools])
    yield from _repeated("lanes", "name", [lane.name for lane in fleet.lanes])
    yield from _repeated("keys", "sha256", [key.sha256 for key in fleet.keys], shown=False)


def _repeated(tables: str, key: str, values: Sequence[str], *, shown: bool = True) -> Iterator[Contradiction]:
    first: dict[str, int] = {}
    for place, value in enumerate(values):
        if first.setdefault(value, place) != place:
            named = f'"{value}"' if shown else "it"
            yield Contradiction((tables, place, key), f"{named} is already in {tables}[{first[value]}]; keep one")


def _names_of_nothing(fleet: Fleet) -> Iterator[Contradiction]:
    suppliers = [supplier.name for supplier in fleet.suppliers]
    for place, pool in enumerate(fleet.pools):
        if pool.supplier not in suppliers:
            message = f'no supplier "{pool.supplier}"; add [suppliers.{pool.supplier}], or '
            yield Contradiction(("pools", place, "supplier"), message + _choice(pool.supplier, suppliers))
    lanes = [lane.name for lane in fleet.lanes]
    for place, key in enumerate(fleet.keys):
        if key.lane not in lanes:
            message = f'no lane "{key.lane}"; add [[lanes]] with name = "{key.lane}", or '
            yield Contradiction(("keys", place, "lane"), message + _choice(key.lane, lanes))


def _tenants_without_key(fleet: Fleet) -> Iterator[Contradiction]:
    known = list(dict.fromkeys(key.tenant for key in fleet.keys))
    for tenant in fleet.tenants:
        if tenant.name not in known:
            message = f'no key is of tenant "{tenant.name}"; add [[keys]] with that tenant, or '
            yield Contradiction(("tenants", tenant.name), message + _choice(tenant.name, known))


def _choice(given: str, known: Sequence[str]) -> str:
    return f"name one that exists: {suggestion(given, known)}" if known else "there is none yet"


def _no_pools(fleet: Fleet) -> Iterator[Contradiction]:
    if not fleet.pools:
        yield Contradiction(("pools",), "nothing to serve from; add at least one [[pools]]")


def _image_model(fleet: Fleet) -> Iterator[Contradiction]:
    if fleet.image_model is not None and fleet.image_model not in fleet.models:
        message = f'no pool serves "{fleet.image_model}"; ' + _choice(fleet.image_model, fleet.models)
        yield Contradiction(("gateway", "image_model"), message)


def _one_port(fleet: Fleet) -> Iterator[Contradiction]:
    if fleet.admin.port == fleet.gateway.port != 0:
        message = f"{fleet.admin.port} is the gateway's port too; give the two listeners different ports"
        yield Contradiction(("admin", "port"), message)


def _room_for_each_worker(fleet: Fleet) -> Iterator[Contradiction]:
    message = "{} is less than gateway.workers = {}, and each worker needs one; raise it, or have fewer workers"
    for place, pool in enumerate(fleet.pools):
        if pool.max_concurrency is not None and pool.max_concurrency < fleet.workers:
            yield Contradiction(
                ("pools", place, "max_concurrency"), message.format(pool.max_concurrency, fleet.workers)
            )
    for place, lane in enumerate(fleet.lanes):
        if 0 < lane.max_waiting < fleet.workers:
            yield Contradiction(("lanes", place, "max_waiting"), message.format(lane.max_waiting, fleet.workers))


def _open_doors(fleet: Fleet) -> Iterator[Contradiction]:
    mint = '"secondsource key new --tenant acme --lane paid"'
    if not fleet.keys and not is_loopback(fleet.gateway.host):
        message = (
            f'without [[keys]] anyone who reaches "{fleet.gateway.host}" could spend your money; '
            f'mint a key with {mint} and add the table it prints, or listen on "127.0.0.1"'
        )
        yield Contradiction(("gateway", "host"), message)
    if fleet.admin.key_sha256 is None and not is_loopback(fleet.admin.host):
        message = (
            f'"{fleet.admin.host}" is not loopback, so the admin listener needs a key; mint one with {mint} '
            'and put its sha256 into admin.key_sha256, or listen on "127.0.0.1"'
        )
        yield Contradiction(("admin", "host"), message)


def _tenant_is_admin(fleet: Fleet) -> Iterator[Contradiction]:
    for place, key in enumerate(fleet.keys):
        if key.sha256 == fleet.admin.key_sha256:
            message = "this is the admin listener's key too, so its tenant could administer; mint another"
            yield Contradiction(("keys", place, "sha256"), message)


def _replicas_once(fleet: Fleet) -> Iterator[Contradiction]:
    # A hosted API serves many models behind one address. A rented replica is one pool's, or its rent counts twice.
    rented = {url for pool in fleet.pools if pool.price.nano_usd_per_replica_hour for url in pool.replicas}
    first: dict[tuple[str, str], str] = {}
    for place, pool in enumerate(fleet.pools):
        for each, replica in enumerate(pool.replicas):
            path = ("pools", place, "replicas", each)
            here = show_path(path)
            what = (replica, "" if replica in rented else pool.upstream_model)
            if first.setdefault(what, here) != here:
                message = f"{replica} is already {first[what]}; a replica belongs to one pool, once"
                yield Contradiction(path, message)


def _not_ourselves(fleet: Fleet) -> Iterator[Contradiction]:
    for place, pool in enumerate(fleet.pools):
        for each, replica in enumerate(pool.replicas):
            host, port = host_and_port(replica)
            if any(_reaches(host, port, listener) for listener in (fleet.gateway, fleet.admin)):
                message = f"{replica} is this gateway itself; give the address of a model server"
                yield Contradiction(("pools", place, "replicas", each), message)


def _reaches(host: str, port: int, listener: Listener) -> bool:
    if port != listener.port:
        return False
    open_here = is_loopback(listener.host) or is_every_interface(listener.host)
    return host == listener.host.lower() or (open_here and is_loopback(host))


_CHECKS: tuple[Callable[[Fleet], Iterator[Contradiction]], ...] = (
    _no_pools,
    _image_model,
    _duplicate_names,
    _names_of_nothing,
    _tenants_without_key,
    _one_port,
    _room_for_each_worker,
    _open_doors,
    _tenant_is_admin,
    _replicas_once,
    _not_ourselves,
)
