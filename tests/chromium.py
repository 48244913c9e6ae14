"""Finds Chromium for the browser tests; `python tests/chromium.py` installs it where that can be done."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
HOW = """\
The browser tests need Chromium. On Debian and Ubuntu: apt-get install chromium. Elsewhere install Chromium or
Google Chrome, or set CHROMIUM to the program's path. Without it these tests are skipped."""


def find() -> str:
    """The path of the program, or nothing."""
    if path := os.environ.get("CHROMIUM"):
        return path
    for name in NAMES:
        if path := shutil.which(name):
            return path
    return str(MAC) if MAC.exists() else ""


def launch_options() -> dict:
    """What Playwright's `chromium.launch` takes. Chromium's own sandbox doesn't work as root."""
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return {"executable_path": find(), "args": arguments}


def install() -> None:
    """With apt-get as root, or else say how."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing Chromium for the browser tests (once).", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, stdout=subprocess.DEVNULL)
    if not find():
        print(HOW, file=sys.stderr)


if __name__ == "__main__":
    if not find():
        install()
