"""The catalog verb: what is listed, shown and refreshed, and its exit codes."""

import json
from pathlib import Path

import pytest

from secondsource.cli.main import main

VMS = "InstanceType,AcceleratorName,AcceleratorCount,Price,SpotPrice,Region\nx,H100,8,80,,{region}\n"


def listed(capsys: pytest.CaptureFixture[str], *flags: str) -> list[dict[str, object]]:
    assert main(["catalog", "list", "--json", *flags]) == 0
    offers: list[dict[str, object]] = json.loads(capsys.readouterr().out)["offers"]
    return offers


def test_list_filters_and_every_row_has_date_and_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offers = listed(capsys, "--catalog", str(tmp_path), "--chip", "tpu-v6e", "--terms", "12-months")
    assert {offer["chip"] for offer in offers} == {"tpu-v6e"}
    assert all(offer["as_of"] and offer["source"] and offer["confidence"] == "low" for offer in offers)


def test_list_warns_with_the_age_of_old_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalog", "list", "--catalog", str(tmp_path), "--supplier", "lambda", "--stale-after", "1"]) == 0
    printed = capsys.readouterr()
    assert "of these prices are old, the oldest" in printed.err
    assert "lambda" in printed.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "h100-sxm"], 0, ""),
        (["show", "h100"], 2, "did you mean"),
        (["show", "lambda/us-east-1/h100-sxm/8/on-demnd"], 2, "did you mean"),
        (["list", "--supplier", "azur"], 2, 'did you mean "azure"'),
        (["list", "--supplier", "lambda", "--chip", "tpu-v6e"], 1, "no offer has all of these"),
        (["list", "--chips"], 0, ""),
        (["refresh", "--as-of", "2026-05-20"], 2, "only for a copy"),
    ],
)
def test_exit_codes(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["catalog", *arguments, "--catalog", str(tmp_path)]) == code
    assert said in capsys.readouterr().err


def test_refresh_adds_prices_and_keeps_those_of_an_earlier_refresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    for supplier, region in (("azure", "atlantis"), ("aws", "avalon")):
        path = tmp_path / region / supplier / "vms.csv"
        path.parent.mkdir(parents=True)
        path.write_text(VMS.format(region=region), encoding="utf-8")
        copy = ["--from", str(tmp_path / region), "--as-of", "2026-10-01", "--catalog", str(kept)]
        assert main(["catalog", "refresh", *copy, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["refreshed"][0]["new"] == 1
    for region in ("atlantis", "avalon"):
        (offer,) = listed(capsys, "--catalog", str(kept), "--region", region)
        assert (offer["as_of"], offer["usd_per_chip_hour"]) == ("2026-10-01", "10.000000000")


def test_refresh_does_not_replace_a_newer_price_with_an_older(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "azure" / "vms.csv"
    path.parent.mkdir()
    path.write_text(VMS.format(region="eastus"), encoding="utf-8")
    copy = ["--from", str(tmp_path), "--catalog", str(tmp_path / "kept"), "--json"]
    assert main(["catalog", "refresh", *copy, "--as-of", "2020-01-01"]) == 0
    assert json.loads(capsys.readouterr().out)["refreshed"][0]["replaced"] == 0
    assert listed(capsys, "--catalog", str(tmp_path / "kept"), "--region", "eastus", "--chip", "h100-sxm") == listed(
        capsys, "--catalog", str(tmp_path / "none"), "--region", "eastus", "--chip", "h100-sxm"
    )
