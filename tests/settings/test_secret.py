import stat
import subprocess
import sys

import pytest

from settings.env import BadSetting
from settings.place import BASE_DIR
from settings.secret import read_or_make_secret_key


def test_secret_key_is_created_once_and_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "secret_key"
    key = read_or_make_secret_key(path)
    assert len(key) >= 50
    assert read_or_make_secret_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_concurrent_starts_get_the_same_secret_key(tmp_path):
    script = (
        "import sys; from pathlib import Path; from settings.secret import read_or_make_secret_key as read;"
    )
    script += "sys.stdin.read(1); print(read(Path(sys.argv[1])))"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "secret_key")],
            cwd=BASE_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for process in started:
        process.stdin.write("!")
        process.stdin.flush()
    assert len({process.communicate(timeout=300)[0] for process in started}) == 1


@pytest.mark.parametrize("content", ["", "short\n"])
def test_damaged_secret_key_stops_the_start_and_is_not_shown(tmp_path, content):
    path = tmp_path / "secret_key"
    path.write_text(content)
    with pytest.raises(BadSetting, match=r"^SECRET_KEY must be ") as refusal:
        read_or_make_secret_key(path)
    assert "short" not in str(refusal.value)
