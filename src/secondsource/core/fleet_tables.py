"""The tables of the fleet file, each read into its record: which keys there are, their types and defaults."""

import msgspec

from secondsource.core import fleet_values as values
from secondsource.core.fleet import (
    IMAGE_SIZE,
    AdminListener,
    Continuation,
    Fleet,
    ImageTerms,
    Key,
    Lane,
    Limits,
    Listener,
    Logging,
    Pool,
    Price,
    Supplier,
    Tenant,
    Timeouts,
    Tracing,
)
from secondsource.core.fleet_money import read_nano_usd
from secondsource.core.fleet_terms import (
    read_key,
    read_lane,
    read_supplier,
    read_tenant,
)
from secondsource.core.strict_toml import Table

ANSWER_PER_FIRST_TOKEN = 6  # of patience with a whole answer, where no first token can be seen

_DEFAULT = Fleet(suppliers=(), pools=())


def read_fleet(root: Table) -> Fleet:
    """Return what the file says, with stand-ins where a fault was reported."""
    fleet: Fleet = msgspec.structs.replace(
        _gateway(root.table("gateway")),
        admin=_admin(root.table("admin")),
        timeouts=_timeouts(root.table("timeouts")),
        limits=_limits(root.table("limits")),
        images=_images(root.table("images")),
        logging=_logging(root.table("logging")),
        tracing=_tracing(root.table("tracing")),
        suppliers=tuple(_supplier(name, table) for name, table in root.named_tables("suppliers", values.NAME)),
        pools=tuple(_pool(table) for table in root.tables("pools")),
        lanes=read_lanes(root),
        tenants=tuple(_tenant(name, table) for name, table in root.named_tables("tenants", values.TENANT)),
        keys=tuple(_key(table) for table in root.tables("keys")),
    )
    root.finish()
    return fleet


def read_lanes(root: Table) -> tuple[Lane, ...]:
    """Return the file's lanes, or the default one where it declares none."""
    return tuple(_lane(table) for table in root.tables("lanes")) or _DEFAULT.lanes


def _gateway(table: Table) -> Fleet:
    """Return a fleet of which the `[gateway]` table alone has been read."""
    listener = Listener(
        host=table.optional("host", values.HOST, _DEFAULT.gateway.host),
        port=table.optional("port", values.PORT, _DEFAULT.gateway.port),
    )
    fleet = Fleet(
        gateway=listener,
        workers=table.optional("workers", values.WORKERS, _DEFAULT.workers),
        pump=table.optional("pump", values.YES_OR_NO, _DEFAULT.pump),
        state_dir=table.optional("state_dir", values.STATE_DIR, _DEFAULT.state_dir),
        image_model=table.optional("image_model", values.MODEL, None),
        suppliers=(),
        pools=(),
    )
    table.finish()
    return fleet


def _admin(table: Table) -> AdminListener:
    listener = AdminListener(
        host=table.optional("host", values.HOST, _DEFAULT.admin.host),
        port=table.optional("port", values.PORT, _DEFAULT.admin.port),
        key_sha256=table.optional("key_sha256", values.SHA256, None),
    )
    table.finish()
    return listener


def _timeouts(table: Table) -> Timeouts:
    default = _DEFAULT.timeouts
    first_token = float(table.optional("first_token", values.SECONDS, default.first_token))
    timeouts = Timeouts(
        connect=float(table.optional("connect", values.SECONDS, default.connect)),
        first_token=first_token,
        answer=float(table.optional("answer", values.SECONDS, first_token * ANSWER_PER_FIRST_TOKEN)),
        between_tokens=float(table.optional("between_tokens", values.SECONDS, default.between_tokens)),
        total=float(table.optional("total", values.SECONDS, default.total)),
        request=float(table.optional("request", values.SECONDS, default.request)),
        idle=float(table.optional("idle", values.SECONDS, default.idle)),
        grace=float(table.optional("grace", values.SECONDS, default.grace)),
    )
    table.finish()
    return timeouts


def _limits(table: Table) -> Limits:
    default = _DEFAULT.limits
    limits = Limits(
        request_body=table.optional("request_body", values.LIMIT_BYTES, default.request_body),
        request_headers=table.optional("request_headers", values.LIMIT_BYTES, default.request_headers),
        response_body=table.optional("response_body", values.LIMIT_BYTES, default.response_body),
        event=table.optional("event", values.LIMIT_BYTES, default.event),
        kept=table.optional("kept", values.LIMIT_BYTES, default.kept),
    )
    table.finish()
    return limits


def _images(table: Table) -> ImageTerms:
    default = _DEFAULT.images
    images = ImageTerms(
        kept_s=float(table.optional("kept", values.SECONDS, default.kept_s)),
        kept_bytes=table.optional("kept_bytes", values.LIMIT_BYTES, default.kept_bytes),
        comes_back_s=float(table.optional("comes_back", values.SECONDS, default.comes_back_s)),
    )
    table.finish()
    return images


def _logging(table: Table) -> Logging:
    logging = Logging(prompts=table.optional("prompts", values.YES_OR_NO, _DEFAULT.logging.prompts))
    table.finish()
    return logging


def _tracing(table: Table) -> Tracing:
    tracing = Tracing(
        endpoint=table.optional("endpoint", values.COLLECTOR_URL, None),
        service_name=table.optional("service_name", values.NAME, _DEFAULT.tracing.service_name),
    )
    table.finish()
    return tracing


def _supplier(name: str, table: Table) -> Supplier:
    supplier = read_supplier(name, table)
    table.finish()
    return supplier


def _pool(table: Table) -> Pool:
    model = table.required("model", values.MODEL)
    chips = table.optional("chips_per_replica", values.CHIPS, 1)
    pool = Pool(
        name=table.required("name", values.NAME),
        supplier=table.required("supplier", values.NAME),
        chip=table.required("chip", values.NAME),
        chips_per_replica=chips,
        price=_price(table, chips),
        model=model,
        upstream_model=table.optional("upstream_model", values.MODEL, model),
        replicas=table.several("replicas", values.REPLICA_URL),
        api_key_env=table.optional("api_key_env", values.ENVIRONMENT_NAME, None),
        weight=float(table.optional("weight", values.WEIGHT, 1.0)),
        order=table.optional("order", values.ORDER, 0),
        continuation=table.optional("continuation", values.CONTINUATION, Continuation.NONE),
        context_tokens=table.optional("context_tokens", values.CONTEXT_TOKENS, None),
        max_concurrency=table.optional("max_concurrency", values.CONCURRENCY, None),
        require_parity=table.optional("require_parity", values.YES_OR_NO, False),
        image_steps=table.optional("image_steps", values.IMAGE_STEPS, None),
        image_size=table.optional("image_size", values.IMAGE_SIZE, IMAGE_SIZE),
    )
    if pool.price.nano_usd_per_image_step_megapixel and pool.image_steps is None:  # never silently free
        message = "missing beside usd_per_image_step_megapixel; add the steps of an image whose request names none"
        table.report("image_steps", message)
    table.finish()
    return pool


def _price(table: Table, chips: int) -> Price:
    """Return a pool's price, rent or by the token or by the image-step; a pool with none costs nothing."""
    rent = read_nano_usd(table, "usd_per_chip_hour", chips)
    tokens_in = read_nano_usd(table, "usd_per_million_input_tokens")
    cached = read_nano_usd(table, "usd_per_million_cached_tokens")
    tokens_out = read_nano_usd(table, "usd_per_million_output_tokens")
    image_step = read_nano_usd(table, "usd_per_image_step_megapixel")
    if image_step is not None:
        for key, amount in (("usd_per_chip_hour", rent), ("usd_per_million_input_tokens", tokens_in)):
            if amount is not None:
                table.report(key, "a pool is priced by the image-step or in another way, not both; keep one")
        return Price(nano_usd_per_image_step_megapixel=image_step)
    if tokens_in is None and cached is None and tokens_out is None:
        return Price(nano_usd_per_replica_hour=rent or 0)
    if rent is not None:
        message = "a pool is priced by the chip-hour or by the token, not both; keep one"
        table.report("usd_per_chip_hour", message)
    for key, amount in (
        ("usd_per_million_input_tokens", tokens_in),
        ("usd_per_million_output_tokens", tokens_out),
    ):
        if amount is None:  # never silently free
            table.report(key, f"missing beside the other token prices; add {key} = 0 if it costs nothing")
    return Price(
        nano_usd_per_million_input_tokens=tokens_in or 0,
        nano_usd_per_million_cached_tokens=(tokens_in or 0) if cached is None else cached,
        nano_usd_per_million_output_tokens=tokens_out or 0,
    )


def _lane(table: Table) -> Lane:
    lane = read_lane(table)
    table.finish()
    return lane


def _tenant(name: str, table: Table) -> Tenant:
    tenant = read_tenant(name, table)
    table.finish()
    return tenant


def _key(table: Table) -> Key:
    key = read_key(table)
    table.finish()
    return key
