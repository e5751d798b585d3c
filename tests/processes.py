"""Other processes, of which a test wants an answer: how long it waits, and how it sends them Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

PATIENCE = 300  # seconds until a deadlock is called one, on a machine that has much else to do

# Where the tests were started in the background, SIGINT is ignored, and children inherit that.
HEED = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
TRY = """
print("started", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def after_ctrl_c(prepare: str, call: str) -> str:
    """What a process that prepares and makes a call prints after a Ctrl-C during the call, which must be a long one."""
    command = [sys.executable, "-c", HEED + prepare + TRY.format(call=call)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "started\n", process.stderr.read()
            time.sleep(0.5)  # it is at work by now; where it is not yet, this proves less, and is no failure
            assert process.poll() is None, "the call was not long enough"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 0, err
    return out
