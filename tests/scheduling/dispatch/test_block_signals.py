import subprocess
import sys

import pytest

from scheduling.dispatch import block_signals
from scheduling.dispatch.block_signals import SIGNAL_SECONDS, SIZE, BlockSignals

HOOK, OTHER = "https://hook.test:443", "https://other.test:443"


def test_block_signal_blocks_one_target_for_a_moment():
    seconds = [100.0]
    signals = BlockSignals(bytearray(SIZE), lambda: seconds[0])
    assert not signals.is_blocked(HOOK)
    signals.block(HOOK, 1.0)
    assert signals.is_blocked(HOOK)
    assert not signals.is_blocked(OTHER)
    seconds[0] += 1.0
    assert not signals.is_blocked(HOOK)
    signals.block(HOOK, 3_600)
    seconds[0] += SIGNAL_SECONDS - 0.01
    assert signals.is_blocked(HOOK)
    seconds[0] += 0.01
    assert not signals.is_blocked(HOOK), "the database tells the rest"


def test_block_signal_from_before_a_reboot_is_ignored():
    seconds = [1e6]
    signals = BlockSignals(bytearray(SIZE), lambda: seconds[0])
    signals.block(HOOK, 2)
    seconds[0] = 5.0
    assert not signals.is_blocked(HOOK)


@pytest.mark.django_db
def test_block_signal_is_seen_by_other_processes_at_once(process_environment):
    code = "import django; django.setup(); from scheduling.dispatch import block_signals as b;"
    code += f" signals = b.of_this_host(); input(); signals.block({HOOK!r}, 60); print('blocked', flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=process_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        signals = block_signals.of_this_host()
        # Both have it open by then, so that no start of a process lies between the block and the look.
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "blocked\n"
        assert signals.is_blocked(HOOK)
        process.stdin.write("\n")
    assert (block_signals.settings.DATA_DIR / "blocked-targets").stat().st_mode & 0o777 == 0o600
