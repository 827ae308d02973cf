"""The rules of the fleet file's single values: names, hashes, hosts, bounds."""

import re

from secondsource.core.addresses import is_host, replica_base_url
from secondsource.core.fleet import Cap, Continuation
from secondsource.core.rules import Rule, number, one_of, text_rule, true_or_false, whole_number

# Names go into response headers, metric labels and ledger rows: plain ASCII there saves every reader of them.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,127}")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COLLECTOR_URL = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/[!-~]*)?")
_IMAGE_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

NAME = text_rule(
    'a name of 1 to 64 letters, digits, ".", "_" and "-", beginning with a letter or digit',
    '"a-name"',
    lambda text: bool(_NAME.fullmatch(text)),
)
TENANT = text_rule(
    'a name of 1 to 128 letters, digits and "._@:/+-", beginning with a letter or digit',
    '"acme"',
    lambda text: bool(_TENANT.fullmatch(text)),
)
MODEL = text_rule(
    "a model's name of 1 to 256 printable characters, without a space at either end",
    '"chat"',
    lambda text: 0 < len(text) <= 256 and text.isprintable() and text == text.strip(),
)
ENVIRONMENT_NAME = text_rule(
    "the name of an environment variable (never the secret itself)",
    '"AZURE_KEY"',
    lambda text: bool(_ENVIRONMENT_NAME.fullmatch(text)),
    shown=False,
)
SHA256 = text_rule(
    "64 lower-case hex digits, the SHA-256 of the bearer token (never the token itself)",
    '"…"',
    lambda text: bool(_SHA256.fullmatch(text)),
    shown=False,
    hint='; mint a key with "secondsource key new --tenant acme --lane paid"',
)
HOST = text_rule("an IP address (IPv6 without brackets) or a host name", '"127.0.0.1"', is_host)
STATE_DIR = text_rule(
    'a directory, written in full or relative to where the command runs ("~" is not expanded)',
    '".secondsource"',
    lambda text: bool(text.strip()) and text.isprintable() and not text.startswith("~"),
)
REPLICA_URL = Rule('"http://127.0.0.1:9001"', "", replica_base_url)
COLLECTOR_URL = text_rule(
    "the http:// or https:// address of an OTLP/HTTP collector",
    '"http://127.0.0.1:4318"',
    lambda text: bool(_COLLECTOR_URL.fullmatch(text)),
)
IMAGE_SIZE = text_rule(
    "an image's width and height in pixels",
    '"1024x1024"',
    lambda text: bool(_IMAGE_SIZE.fullmatch(text)),
)
CONTINUATION = one_of(Continuation)
CAP = one_of(Cap)
YES_OR_NO = true_or_false()

PORT = whole_number(0, 65535)  # 0: any free port
WORKERS = whole_number(1, 1024)
CHIPS = whole_number(1, 1_000_000)
ORDER = whole_number(0, 1_000_000)
CONTEXT_TOKENS = whole_number(1, 1_000_000_000, "tokens")
IMAGE_STEPS = whole_number(1, 1000, "steps")
CONCURRENCY = whole_number(1, 1_000_000, "attempts")
LIMIT_BYTES = whole_number(1024, 2**40, "bytes")
SECONDS = number("0.001", "86400", "seconds")
PRIORITY = whole_number(0, 1_000_000)
WAITING = whole_number(0, 1_000_000, "requests")
COUNT = whole_number(0, 10**15)
SHARE = number("0", "1")
SHARE_WINDOW = number("60", "2678400", "seconds")
WEIGHT = number("0.000001", "1000000")
USD = number("0", "1000000", "dollars")
