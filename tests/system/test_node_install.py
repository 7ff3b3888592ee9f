"""A node gets what the agent needs and nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent


def test_a_node_has_an_agent_and_no_numpy(tmp_path: Path) -> None:
    """From the agent's lock alone, `farmhand-agent once` works; numpy and Textual are not there."""
    node = tmp_path / "node"
    python, pip = str(node / "bin" / "python"), str(node / "bin" / "pip")
    subprocess.run([sys.executable, "-m", "venv", str(node)], check=True)
    quiet = ["--quiet", "--disable-pip-version-check"]
    lock = str(ROOT / "requirements-agent.lock")
    subprocess.run([pip, "install", *quiet, "--require-hashes", "-r", lock], check=True)
    subprocess.run([pip, "install", *quiet, "--no-deps", str(ROOT)], check=True)

    missing = (
        "import importlib.util as u; print([m for m in ('numpy', 'textual') if u.find_spec(m)])"
    )
    found = subprocess.run([python, "-c", missing], capture_output=True, text=True, check=True)
    once = [str(node / "bin" / "farmhand-agent"), "once", "--json", "--interval", "0.2"]
    done = subprocess.run(once, capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
    assert json.loads(done.stdout)["host"]["memory_total_bytes"] > 0
