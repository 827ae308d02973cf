import tomllib

import pytest

from secondsource.core.errors import InputError
from secondsource.planner.what_if import change

TEXT = """[plan]
start = "2027-01" # first
[suppliers.azure]
max_share = 0.6 # of rent
[[lanes]]
name = "paid"
[[lanes]]
name = "free"
surges = [{ month = "2027-02", factor = 5.0 }]
rates = [
  1,
]
"""


@pytest.mark.parametrize(
    ("what", "path", "value"),
    [
        ("suppliers.azure.max_share=0.3", ("suppliers", "azure", "max_share"), 0.3),
        ("suppliers.azure.lead_months=2", ("suppliers", "azure", "lead_months"), 2),
        ("suppliers.oci.max_share = 0.5", ("suppliers", "oci", "max_share"), 0.5),
        ("lanes.1.survive=0.2", ("lanes", 1, "survive"), 0.2),
        ("lanes.0.name=gold", ("lanes", 0, "name"), "gold"),
        ("plan.start=2027-05", ("plan", "start"), "2027-05"),
        ('survive.suppliers=["azure"]', ("survive", "suppliers"), ["azure"]),
    ],
)
def test_one_key_is_changed_and_nothing_else(what: str, path: tuple[str | int, ...], value: object) -> None:
    before, after = tomllib.loads(TEXT), tomllib.loads(change(TEXT, what))
    at: object = after
    for part in path:
        at = at[part]  # type: ignore[index]
    assert at == value
    for key in set(before) - {path[0]}:
        assert before[key] == after[key]


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nonsense", "expected a key and a value"),
        ("lanes.7.survive=1", "the SPEC has no lanes.7"),
        ("lanes.1.rates=5", "does not hold the whole of rates"),
    ],
)
def test_what_cannot_be_changed_is_said(what: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        change(TEXT, what)
