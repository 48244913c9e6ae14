"""Our readers of JSON, CSV and XLSX beside the libraries that read the same file: CPU time and peak memory.

Each reads one file in a process of its own. Libraries that are not installed are named as missing:
`.venv/bin/pip install ijson python-calamine openpyxl` brings them.
"""

import importlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

IDS = 300_000
Row = dict[str, Any]
TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "xlsx": "multipart/form-data; boundary=x",
}


def run() -> list[Row]:
    """Measure, and return the rows."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, make in (("json", _json), ("csv", _csv), ("xlsx", _xlsx)):
            path = Path(folder) / f"ids.{kind}"
            make(path)
            own = _measure("ours", path)
            rows.append(_row(f"readers: {kind}: memory added by ours", own["memory"] / 1024, "MiB"))
            for name, (reads, module, _) in PEERS.items():
                if reads != kind:
                    continue
                if importlib.util.find_spec(module) is None:
                    rows.append(_row(f"readers: {kind}: {name} is not installed", 0, "measured"))
                    continue
                other = _measure(name, path)
                rows += [
                    _row(f"readers: {kind}: CPU", own["cpu"] / other["cpu"], f"of {name}'s"),
                    _row(f"readers: {kind}: memory added by {name}", other["memory"] / 1024, "MiB"),
                ]
    return rows


def _row(name: str, value: float, unit: str) -> Row:
    return {"name": name, "value": round(value, 3), "limit": None, "unit": unit, "ok": True}


def _json(path: Path) -> None:
    payload = ",".join(map(str, range(10**9, 10**9 + IDS)))
    path.write_text(f'{{"task_name": "x", "payload": [{payload}]}}')


def _csv(path: Path) -> None:
    with path.open("w") as file:
        file.write("user_id,name,city\n")
        file.writelines(f'{10**9 + n},"Ann, {n}",Bonn\n' for n in range(IDS))


def _xlsx(path: Path) -> None:
    relationship = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType='
            '"application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{office}.sheet.main+xml"/>'
            f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{office}.worksheet+xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
            f'Type="{relationship}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
            f'Type="{relationship}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{main}" xmlns:r="{relationship}"><sheets>'
            '<sheet name="IDs" sheetId="1" r:id="r1"/></sheets></workbook>',
        )
        cells = "".join(f'<row r="{n}"><c r="A{n}"><v>{10**9 + n}</v></c></row>' for n in range(1, IDS + 1))
        archive.writestr(
            "xl/worksheets/sheet1.xml",
            f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
        )


# --- One reading, in a process of its own ---


def _measure(name: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.readers", name, str(path)]
    measured: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return measured


def _own(path: Path) -> int:
    from scheduling.parsing import Limits, read_body

    # A sheet comes in a form, as a browser sends it.
    head = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="ids.xlsx"\r\n\r\n'
        if path.suffix == ".xlsx"
        else b""
    )
    tail = b"\r\n--x--\r\n" if head else b""

    def chunks() -> Iterator[bytes]:
        yield head
        with path.open("rb") as file:
            while block := file.read(1 << 16):
                yield block
        yield tail

    with tempfile.TemporaryDirectory() as spool:
        reading = read_body(
            chunks(),
            content_type=TYPES[path.suffix[1:]],
            content_length=len(head) + path.stat().st_size + len(tail),
            limits=Limits(),
            spool_dir=Path(spool),
        )
        try:
            assert reading.spool is not None
            return sum(len(block) for block in reading.spool.unique_blocks(10_000))
        finally:
            reading.close()


def _ijson(path: Path) -> int:
    import ijson  # type: ignore[import-not-found]  # installed by whoever compares

    with path.open("rb") as file:
        return sum(1 for _ in ijson.items(file, "payload.item"))


def _json_module(path: Path) -> int:
    payload: list[int] = json.loads(path.read_bytes())["payload"]
    return len(payload)


def _csv_module(path: Path) -> int:
    import csv

    with path.open(newline="") as file:
        return sum(1 for row in csv.DictReader(file) if int(row["user_id"]))


def _calamine(path: Path) -> int:
    import python_calamine  # type: ignore[import-not-found]  # installed by whoever compares

    rows = python_calamine.CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
    return sum(1 for row in rows if int(row[0]))


def _openpyxl(path: Path) -> int:
    import openpyxl  # type: ignore[import-untyped]  # installed by whoever compares

    sheet = openpyxl.load_workbook(path, read_only=True).worksheets[0]
    return sum(1 for (value,) in sheet.iter_rows(values_only=True) if value)


# Each library: the format, its module, and a function that reads a file's IDs.
PEERS: dict[str, tuple[str, str, Callable[[Path], int]]] = {
    "ijson": ("json", "ijson", _ijson),
    "json (standard library)": ("json", "json", _json_module),
    "csv (standard library)": ("csv", "csv", _csv_module),
    "python-calamine": ("xlsx", "python_calamine", _calamine),
    "openpyxl": ("xlsx", "openpyxl", _openpyxl),
}


def _main(name: str, path: Path) -> None:
    read, module = (_own, "scheduling.parsing") if name == "ours" else (PEERS[name][2], PEERS[name][1])
    importlib.import_module(module)
    cpu, memory = time.process_time(), _peak_kib()
    ids = read(path)
    if ids != IDS:
        raise SystemExit(f"{name} read {ids} of {IDS} IDs.")
    print(json.dumps({"cpu": time.process_time() - cpu, "memory": max(1, _peak_kib() - memory)}))


def _peak_kib() -> int:
    # Not getrusage: its peak outlives the exec that started this process.
    match = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(match[1]) if match else 0


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
