"""The workers' own filter installs in a pod under Pod Security "restricted" and the runtime's default profile."""

import json
import subprocess
import sys

from deploy.local.state import CHECKOUT


def test_a_worker_starts_and_has_no_socket_where_the_runtimes_profile_is_in_force() -> None:
    command = [sys.executable, "-m", "tests.k8s.as_restricted"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"echoed": {"number": 1}, "socket": "EPERM"}
