"""A refresh reads SkyPilot's format, and never makes an old price look new."""

import http.server
import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from secondsource.catalog import refresh
from secondsource.catalog.load import parse_offers, shipped_catalog
from secondsource.catalog.skypilot import read_vms
from secondsource.core.errors import InputError, NoAnswerError

DAY = date(2026, 5, 20)
AZURE = """InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,Generation
Standard_ND96isr_H100_v5,H100,8.0,96.0,1900.0,,98.32,30.2,eastus,V2
Standard_ND96isr_H200_v5,H200,8.0,96.0,1900.0,,,,westus3,V2
Standard_D2,,,2,8,,0.1,,eastus,V2
Standard_Odd,H100,0.5,2,8,,3,,eastus,V2
Standard_Dear,H100,1,2,8,,9999,,eastus,V2
gpu_1x_h100_pcie,H100,1,2,8,,2.49,,eastus,V2
"""
GCP = """InstanceType,vCPUs,AcceleratorName,AcceleratorCount,GpuInfo,Region,AvailabilityZone,Price,SpotPrice
TPU-VM,,tpu-v6e-8,1,,us-east5,us-east5-b,21.6,9.1
,,H100,8,,us-east5,us-east5-b,80,20
TPU-VM,,tpu-v6e-8,1,,us-east5,us-east5-c,21.2,700
TPU-VM,,tpu-v5p-8,1,,us-east5,us-east5-a,16.8,
"""


def prices(text: str, supplier: str) -> dict[str, int]:
    reading = read_vms(text, "vms.csv", supplier, DAY, "a snapshot")
    return {offer.name: offer.nano_usd_per_chip_hour for offer in reading.offers}


def test_a_machines_price_is_shared_by_its_chips() -> None:
    assert prices(AZURE, "azure") == {
        "azure/eastus/h100-sxm/8/on-demand": 12_290_000_000,
        "azure/eastus/h100-sxm/8/spot": 3_775_000_000,
    }


def test_slices_are_counted_in_chips_and_the_cheapest_zone_stands_for_the_region() -> None:
    assert prices(GCP, "gcp") == {
        "gcp/us-east5/tpu-v6e/8/on-demand": 2_650_000_000,
        "gcp/us-east5/tpu-v6e/8/spot": 1_137_500_000,  # 700 means: not offered
        "gcp/us-east5/tpu-v5p/4/on-demand": 4_200_000_000,  # that name counts cores
    }


def test_every_row_left_out_is_counted_with_its_reason() -> None:
    azure = read_vms(AZURE, "vms.csv", "azure", DAY, "a snapshot")
    assert dict(azure.left_out) == {
        "a PCIe card under the chip's name": 1,
        "a price beyond belief": 1,
        "no accelerator of this catalogue": 2,
        "no price": 1,
    }
    gcp = read_vms(GCP, "vms.csv", "gcp", DAY, "a snapshot")
    assert dict(gcp.left_out) == {"a price of accelerators without their machine": 1}


def test_a_file_of_another_format_is_refused() -> None:
    with pytest.raises(InputError, match=r"vms.csv:1: no column AcceleratorName, AcceleratorCount"):
        read_vms("Region,Price\n", "vms.csv", "azure", DAY, "a snapshot")


def test_a_price_list_written_is_read_back_the_same() -> None:
    offers = read_vms(GCP, "vms.csv", "gcp", DAY, 'a "quoted" source').offers
    chips = tuple(chip.name for chip in shipped_catalog(DAY.replace(year=2027)).chips)
    assert set(parse_offers(refresh.price_list(offers), "x.toml", chips, DAY)) == set(offers)


def copy(directory: Path) -> Path:
    path = directory / "azure" / "vms.csv"
    path.parent.mkdir(parents=True)
    path.write_text(AZURE, encoding="utf-8")
    return directory


def test_a_copy_without_a_date_is_refused_however_new_its_file_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing says which day's prices these are .* give --as-of"):
        refresh.from_directory(copy(tmp_path), ("azure",), None)


def test_a_copys_date_is_the_one_given(tmp_path: Path) -> None:
    (snapshot,) = refresh.from_directory(copy(tmp_path), ("azure", "gcp"), DAY)
    assert (snapshot.supplier, snapshot.as_of) == ("azure", DAY)


def test_a_checkouts_date_is_that_of_the_files_last_commit(tmp_path: Path) -> None:
    copy(tmp_path)
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    stamps = {"GIT_AUTHOR_DATE": "2026-11-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-05-20T12:00:00Z"}
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "prices"]):
        subprocess.run(["git", *command], cwd=tmp_path, env={**os.environ, **identity, **stamps}, check=True)
    (snapshot,) = refresh.from_directory(tmp_path, ("azure",), None)
    assert snapshot.as_of == DAY


def test_a_directory_without_the_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no <supplier>/vms.csv for azure"):
        refresh.from_directory(tmp_path, ("azure",), DAY)


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with a catalogue, dated as the path asks."""

    def do_GET(self) -> None:
        body = AZURE.encode()
        if self.path.startswith("/history"):
            body = b'[{"commit": {"committer": {"date": "2026-05-20T01:02:03Z"}}}]'
        if "missing" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        if self.path.startswith("/dated"):
            self.send_header("Last-Modified", "Sun, 22 Nov 2026 10:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("base", "history", "expected"),
    [
        ("dated", "missing", date(2026, 11, 22)),
        ("undated", "history", DAY),
        ("dated", "history", DAY),  # the older of the two
    ],
)
def test_over_http_the_date_is_the_servers_or_the_historys(
    address: str, base: str, history: str, expected: date
) -> None:
    (snapshot,) = refresh.from_network(f"{address}/{base}", f"{address}/{history}", ("azure",))
    assert (snapshot.as_of, snapshot.text) == (expected, AZURE)


def test_over_http_a_price_without_a_date_is_refused(address: str) -> None:
    with pytest.raises(NoAnswerError, match=r"says of which day these prices are"):
        refresh.from_network(f"{address}/undated", f"{address}/missing", ("azure",))


def test_a_network_that_does_not_answer_is_no_answer(address: str) -> None:
    with pytest.raises(NoAnswerError, match=r"404"):
        refresh.from_network(f"{address}/missing", f"{address}/history", ("azure",))
    with pytest.raises(InputError, match=r"http or https"):
        refresh.from_network("file:///etc", "file:///etc", ("azure",))
