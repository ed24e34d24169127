"""The sound of the original video, put beside the drawn pictures."""

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from fastexai.aside import written_aside

__all__ = ["keep_sound"]


def keep_sound(original: Path, drawn: Path) -> str | None:
    """Add the first sound track of a video to another one, in place, by ffmpeg.

    The track is copied as it is or, where an ``.mp4`` cannot hold it, encoded as AAC; the pictures
    are copied in any case.

    Parameters
    ----------
    original : Path
        The video that has the sound.
    drawn : Path
        The ``.mp4`` that gets it.

    Returns
    -------
    str or None
        Why the sound is lost; None if it was kept or there is none.
    """
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return "the sound, if there is any, is lost: ffmpeg was not found"
    sound = ("-i", str(original.absolute()))
    if (
        _run(ffmpeg, *sound, "-map", "0:a:0", "-c", "copy", "-t", "0", "-f", "null", "-")
        is not None
    ):
        return None  # there is no such track
    streams = ("-i", str(drawn.absolute()), *sound, "-map", "0:v", "-map", "1:a:0", "-c:v", "copy")
    reason = ""
    for codec in ("copy", "aac"):
        try:
            with written_aside(drawn) as both:
                if (
                    said := _run(ffmpeg, *streams, "-c:a", codec, str(both.absolute()))
                ) is not None:
                    raise ChildProcessError(said)
        except ChildProcessError as error:
            reason = str(error)
        else:
            return None
    return f"the sound is lost: ffmpeg cannot copy it ({reason})"


def _run(*command: str) -> str | None:
    """Return the last line that a failing command says, None if all went well."""
    done = subprocess.run(
        [command[0], "-v", "error", "-nostdin", "-y", *command[1:]],
        capture_output=True,
        check=False,
    )
    said = done.stderr.decode(errors="replace").strip()
    return None if done.returncode == 0 else said.rpartition("\n")[2]
