"""Load, hostile uploads and fuzzing of `omnialpha serve` with the embedded checkpoint; writes service.json.

    python benchmarks/service.py [--requests 1000] [--clients 32] [--hostile 500] [--schemathesis PATH/TO/schemathesis]

The service is a process of its own, in an empty folder. Load: matting of 64² pictures, each client sending its next
request when the answer is there; beside it the same requests by one client, one at a time. Memory is the resident set
of the service, asked after every request; the first hundred begins after a warm-up of as many requests as clients.
Hostile uploads: bombs, truncated files, wrong types, file names that are paths, huge headers, broken forms and JSON.
"""

import argparse
import io
import json
import os
import platform
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image, ImageDraw

RESULT = Path(__file__).with_suffix(".json")
COMMAND = " ".join(["python", sys.argv[0], *(Path(word).name for word in sys.argv[1:])])  # no paths of a machine
URL = "/v1/tasks/matting_auto"
LEAKS = (b"Traceback", b".py\\", b'File "', b"site-packages")


@contextmanager
def service(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command in a folder of its own; yields the process and its address."""
    (folder / "tmp").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"}
    command = [
        sys.executable,
        "-m",
        "omnialpha",
        "serve",
        "--data",
        str(folder / "data"),
        "--port",
        str(port),
        *options,
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        while b"Serving" not in (folder / "log").read_bytes():
            if process.poll() is not None:
                raise SystemExit((folder / "log").read_text())
            time.sleep(0.1)
        yield process, url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def picture(seed: int) -> bytes:
    draw_from = random.Random(seed)
    image = Image.new("RGB", (64, 64), tuple(draw_from.randrange(256) for _ in range(3)))
    corner = draw_from.randrange(8, 24), draw_from.randrange(8, 24)
    ImageDraw.Draw(image).ellipse((*corner, corner[0] + 32, corner[1] + 32), fill=(200, 40, draw_from.randrange(256)))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def resident(process: subprocess.Popen[bytes]) -> float:
    """Megabytes."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def load(process: subprocess.Popen[bytes], url: str, requests: int, clients: int) -> dict[str, Any]:
    """Send requests from many clients at once."""
    pictures = [picture(seed) for seed in range(64)]
    seconds: list[float] = []
    memory: list[float] = []
    errors: Counter[str] = Counter()
    lock = threading.Lock()
    local = threading.local()

    def send(number: int) -> None:
        if not hasattr(local, "client"):
            local.client = httpx2.Client(base_url=url, trust_env=False, timeout=300)
        start = time.perf_counter()
        response = local.client.post(URL, files={"image": ("x.png", pictures[number % 64])}, data={"seed": str(number)})
        elapsed = time.perf_counter() - start
        with lock:
            seconds.append(elapsed)
            memory.append(resident(process))
            if response.status_code != 200 or not response.content.startswith(b"\x89PNG"):
                errors[f"{response.status_code} {response.text[:200]}"] += 1

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(send, range(clients)))  # warm up
        seconds.clear()
        memory.clear()
        start = time.perf_counter()
        list(pool.map(send, range(requests)))
        wall = time.perf_counter() - start
    ranked = sorted(seconds)
    hundred = min(100, requests // 2)
    first, last = statistics.mean(memory[:hundred]), statistics.mean(memory[-hundred:])
    return {
        "command": COMMAND,
        "requests": requests,
        "clients": clients,
        "errors": dict(errors),
        "p50_ms": round(ranked[len(ranked) // 2] * 1000, 1),
        "p99_ms": round(ranked[int(len(ranked) * 0.99)] * 1000, 1),
        "requests_per_second": round(requests / wall, 2),
        "memory_first_hundred_mb": round(first, 1),
        "memory_last_hundred_mb": round(last, 1),
        "memory_growth_percent": round((last / first - 1) * 100, 2),
    }


def batches(url: str) -> dict[str, float]:
    text = httpx2.get(f"{url}/metrics", trust_env=False).text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("omnialpha_batch_size_"))
    count, total = (float(figures[f"omnialpha_batch_size_{name}"]) for name in ("count", "sum"))
    return {"batches": count, "mean_size": round(total / count, 2)}


# --- hostile ---


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    body = zlib.compress(bytes(1 << 16))
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *extra, chunk(b"IDAT", body), chunk(b"IEND", b"")])


def as_form(content: bytes, name: str = "x.png", field: str = "image") -> dict[str, Any]:
    return {"files": {field: (name, content)}}


def as_json(content: bytes) -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": "application/json"}}


def hostile_requests(draw_from: random.Random) -> list[Callable[[], dict[str, Any]]]:
    """Makers of wrong requests, each with its own random part."""
    good = picture(0)
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(good)).save(jpeg, "JPEG")
    text_bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80 << 20)))
    profile_bomb = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(80 << 20)))
    names = ("../../../evil.png", "/etc/cron.d/evil", "..\\..\\evil.png", "evil\0.png", "a" * 3000, "evil.png\r\nX: y")

    def damaged() -> bytes:
        content = bytearray(draw_from.choice([good, jpeg.getvalue()]))
        for _ in range(20):
            content[draw_from.randrange(8, len(content))] = draw_from.randrange(256)
        return bytes(content[: draw_from.randrange(20, len(content))])

    return [
        lambda: as_form(png_of(draw_from.randrange(20_000, 2**31), draw_from.randrange(20_000, 2**31))),
        lambda: as_form(png_of(9_000, 9_000)),
        lambda: as_form(png_of(3_900, 3_900)),  # allowed by its size, but nothing is in it
        lambda: as_form(png_of(64, 64, text_bomb)),
        lambda: as_form(png_of(64, 64, profile_bomb)),
        lambda: as_form(good[: draw_from.randrange(1, len(good) - 20)]),
        lambda: as_form(jpeg.getvalue()[: draw_from.randrange(1, 300)]),
        lambda: as_form(damaged()),
        lambda: as_form(
            draw_from.choice([b"MZ\x90\0", b"PK\x03\x04", b"#!/bin/sh\n", b"<svg/>", b"GIF89a", b"%PDF-1.7"]) * 50
        ),
        lambda: as_form(b""),
        lambda: as_form(bytes(draw_from.randrange(70, 75) << 20)),  # more than a request may have
        lambda: as_form(damaged(), name=draw_from.choice(names)),
        lambda: as_form(good, field=draw_from.choice(names)),
        lambda: {"content": b"x" * 100, "headers": {"content-type": "multipart/form-data"}},
        lambda: {"content": b"--b\r\nno header", "headers": {"content-type": "multipart/form-data; boundary=b"}},
        lambda: {
            "content": good,
            "headers": {"content-type": draw_from.choice(["image/png", "text/html", "x" * 5000])},
        },
        lambda: as_json(b"[" * 100_000),
        lambda: as_json(b'{"images": ["' + b"A" * draw_from.randrange(1, 10_000) + b'"]}'),
        lambda: as_json(b'{"seed": 1e999, "images": []}'),
        lambda: as_json(b'{"text": "\\ud800", "images": []}'),
        lambda: as_json(b'{"width": 65536, "height": 65536, "images": []}'),
        lambda: as_json(draw_from.randbytes(2000)),
        lambda: as_form(good) | {"headers": {"x-huge": "a" * draw_from.randrange(100_000, 1_000_000)}},
        lambda: as_form(good) | {"headers": {"cookie": "a=b; " * 30_000 + "c=d"}},
        lambda: as_form(good) | {"data": {"text": "x" * 20_000}},
        lambda: as_form(good) | {"data": {"steps": "10000000"}},
    ]


def attack(process: subprocess.Popen[bytes], url: str, folder: Path, count: int) -> dict[str, Any]:
    """Send wrong requests and look at what they leave."""
    makers = hostile_requests(random.Random(0))
    before = set(folder.iterdir()) | set((folder / "tmp").iterdir())  # torch makes a folder for temporary files
    statuses: Counter[str] = Counter()
    problems: list[str] = []
    peak = resident(process)
    with httpx2.Client(base_url=url, trust_env=False, timeout=300) as client:
        for number in range(count):
            try:
                response = client.post(URL, **makers[number % len(makers)]())
            except httpx2.TransportError as error:  # the server closes on headers that are too large
                statuses[type(error).__name__] += 1
                continue
            peak = max(peak, resident(process))
            statuses[str(response.status_code)] += 1
            told = response.status_code == 200 or b"\n" not in response.content
            if response.status_code >= 500 or not told or any(word in response.content for word in LEAKS):
                problems.append(f"{number % len(makers)}: {response.status_code} {response.text[:200]}")
        alive = process.poll() is None and client.get("/health").json()["status"] == "ok"
        works = client.post(URL, **as_form(picture(1))).status_code == 200
    strangers = [p.name for p in {*folder.iterdir(), *(folder / "tmp").iterdir()} - before]
    strangers += [str(p.relative_to(folder)) for p in folder.rglob("*") if "evil" in p.name]
    return {
        "command": COMMAND,
        "requests": count,
        "kinds": len(makers),
        "answers": dict(statuses),
        "problems": problems,
        "alive_and_working": alive and works,
        "files_outside_the_data_folder": strangers,
        "left_in_uploads": len(list((folder / "data" / "uploads").iterdir())),
        "peak_memory_mb": round(peak, 1),
    }


def fuzz(url: str, schemathesis: str) -> dict[str, Any]:
    """Run schemathesis on the OpenAPI document; a picture made of random text is rightly refused."""
    command = [schemathesis, "run", f"{url}/openapi.json", "--exclude-checks", "positive_data_acceptance"]
    found = subprocess.run(
        [*command, "--max-examples", "50", "--seed", "1"], capture_output=True, text=True, check=False
    )
    lines = [line.strip() for line in found.stdout.splitlines() if line.strip()]
    return {
        "command": " ".join(["schemathesis", "run", "openapi.json", *command[3:]]),
        "exit_code": found.returncode,
        "summary": lines[-14:],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--hostile", type=int, default=500)
    parser.add_argument("--schemathesis")
    options = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    result |= {
        "hardware": f"{platform.machine()}, {os.cpu_count()} cores shared with other work, no GPU",
    }
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as (process, url):
        if options.requests:
            single = load(process, url, max(20, options.requests // 10), 1)
            before = batches(url)
            many = load(process, url, options.requests, options.clients)
            after = batches(url)
            result["one_at_a_time"], result["load"] = single, many
            served = after["batches"] * after["mean_size"] - before["batches"] * before["mean_size"]
            result["mean_batch"] = round(served / (after["batches"] - before["batches"]), 2)
            result["times_faster"] = round(many["requests_per_second"] / single["requests_per_second"], 2)
            print(json.dumps(result, indent=1), flush=True)
        if options.hostile:
            result["hostile"] = attack(process, url, Path(name), options.hostile)
            print(json.dumps(result["hostile"], indent=1), flush=True)
        if options.schemathesis:
            result["schemathesis"] = fuzz(url, options.schemathesis)
            print(json.dumps(result["schemathesis"], indent=1), flush=True)
        log = (Path(name) / "log").read_text()
        result["tracebacks_in_the_log"] = log.count("Traceback")
        print(log[-3000:])
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
