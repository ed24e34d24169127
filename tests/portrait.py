"""Render short videos of a real face whose true motion is known.

The face is the public-domain portrait of Eileen Collins that scikit-image ships
(`skimage.data.astronaut`); no download is needed. All positions below are pixels of that picture.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator
from skimage.data import astronaut

FACE_CENTRE = (224.0, 125.0)
LIP_CORNERS = ((202.3, 139.2), (244.5, 140.6))
#: How far the lip corners go at the smile's apex: outward and up, a tenth of the face's width.
SMILE_SHIFT = (6.0, -5.0)
SMILE_SIGMA = 9.0


def smiling(picture, amount):
    """Move the lip corners of the portrait outward and up by ``amount`` (0 neutral, 1 apex)."""
    ys, xs = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    map_x, map_y = xs.copy(), ys.copy()
    for (x, y), side in zip(LIP_CORNERS, (-1, 1), strict=True):
        near = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * SMILE_SIGMA**2))
        map_x -= amount * side * SMILE_SHIFT[0] * near
        map_y -= amount * SMILE_SHIFT[1] * near
    return cv2.remap(picture, map_x, map_y, cv2.INTER_CUBIC)


def pose(phase, size, *, pan=True, zoom=True, roll=True):
    """Return the (2, 3) similarity that maps the portrait into a frame, at a phase in [0, 1)."""
    swing = math.sin(2 * math.pi * phase)
    scale = size[1] / 240 * (1 + 0.15 * swing * zoom)
    matrix = cv2.getRotationMatrix2D(FACE_CENTRE, 10 * swing * roll, scale)
    matrix[0, 2] += size[0] / 2 - FACE_CENTRE[0] + 0.08 * size[1] * swing * pan
    matrix[1, 2] += size[1] / 2 - FACE_CENTRE[1]
    return matrix


def portrait_frames(
    *, frames=60, size=(1280, 720), period=60, pan=True, zoom=True, roll=True, smile=True
):
    """Yield (RGB frame, pose): one slow swing every ``period`` frames, neutral to smile over all."""
    picture = astronaut()
    for index in range(frames):
        progress = index / max(frames - 1, 1)
        amount = progress * progress * (3 - 2 * progress)
        face = smiling(picture, amount) if smile else picture
        matrix = pose(index / period, size, pan=pan, zoom=zoom, roll=roll)
        yield (
            cv2.warpAffine(
                face, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            ),
            matrix,
        )


def turned(picture, face, yaw, pitch):
    """Turn the head in a picture by ``yaw`` and ``pitch``, degrees: warp the picture by its mesh.

    ``face``, (468, 3), are the landmarks in the picture. They are turned about their mean in space;
    the picture follows them, linearly in between, and stays where it is at its edge.
    """
    height, width = picture.shape[:2]
    (a, b), centre = np.deg2rad([yaw, pitch]), face.mean(0)
    turn_y = [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]]
    turn_x = [[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]]
    moved = ((face - centre) @ np.transpose(np.array(turn_x) @ turn_y) + centre)[:, :2]
    xs, ys = np.meshgrid(np.linspace(0, width - 1, 6), np.linspace(0, height - 1, 6))
    grid = np.column_stack([xs.ravel(), ys.ravel()])
    edge = grid[(grid % (width - 1, height - 1) == 0).any(1)]
    came_from = LinearNDInterpolator(
        np.vstack([moved, edge]), np.vstack([face[:, :2], edge]).astype(np.float32)
    )
    rows, columns = np.mgrid[:height, :width]
    source = came_from(columns, rows).astype(np.float32)
    return cv2.remap(picture, source, None, cv2.INTER_LINEAR)


def render_portrait(path, *, frames=60, size=(1280, 720), fps=30, blank=(), **motion):
    """Write the portrait as an mp4 video and return each frame's (2, 3) pose.

    Frames whose index is in ``blank`` are grey; ``motion`` goes to `portrait_frames`.
    """
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    poses = []
    for index, (frame, matrix) in enumerate(portrait_frames(frames=frames, size=size, **motion)):
        writer.write(np.full_like(frame, 128) if index in blank else frame[..., ::-1])
        poses.append(matrix)
    writer.release()
    return np.array(poses)


def crowd_frame(faces, size=(640, 360)):
    """Return a grey frame with a portrait at each (centre x, pixels high) of ``faces``."""
    frame = np.full((size[1], size[0], 3), 128, np.uint8)
    head = astronaut()[20:230, 124:324]
    for centre, height in faces:
        scaled = cv2.resize(head, (round(height * 200 / 210), height), interpolation=cv2.INTER_AREA)
        top, left = (size[1] - height) // 2, round(centre - scaled.shape[1] / 2)
        frame[top : top + height, left : left + scaled.shape[1]] = scaled
    return frame
