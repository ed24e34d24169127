import subprocess
import sys

import torch

import fastexai as fx


def test_every_public_name_exists():
    assert sorted(fx.__all__) == fx.__all__
    for name in fx.__all__:
        assert getattr(fx, name) is not None


def test_another_torch_minor_is_refused_before_the_core_loads():
    code = "import torch; torch.__version__ = '2.99.1'; import fastexai"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    built = torch.__version__.split("+")[0]
    assert last.startswith(f"ImportError: fastexai: its core was built for torch {built}")
    assert "torch 2.99.1 is installed; rebuild with" in last
