"""Watching a face: what the page gets, who may ask for it, and that it keeps up and stops."""

from __future__ import annotations

import http.client
import importlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import cv2
import numpy as np
import pytest

from fastexai import mesh
from fastexai.face_detector import FaceDetector
from fastexai.live import live
from fastexai.live.newest import Newest
from fastexai.live.serve import Server
from fastexai.live.watch import Watcher
from portrait import render_portrait

SIZE = (320, 240)
watch = importlib.import_module("fastexai.live.watch")  # fastexai.live is a function, too


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "smile.mp4"
    render_portrait(path, frames=30, size=SIZE)
    return path


@pytest.fixture(scope="module")
def server(video, exported):
    watcher = Watcher(video, exported, seconds=0.8, face_model=None)
    with watcher, Server(watcher.pictures, watcher.states, 0) as server:
        yield server


def ask(server, path="/", host=None, method="GET"):
    """Return (status, headers, the open answer)."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=20)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer


def states(server):
    """Yield what the page is told."""
    _, _, answer = ask(server, "/states")
    with answer:
        for line in answer:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


def test_numbers_come_with_names(server):
    known = next(s for s in itertools.islice(states(server), 60) if s["probability"] is not None)
    assert known["emotion"] == "happiness"
    assert known["status"] == "watching"
    assert 0 <= known["probability"] <= 1
    assert known["completeness_error"] >= 0
    names, shares = zip(*known["regions"], strict=True)
    assert set(names) < set(mesh.REGIONS)
    assert 0 < sum(shares) <= 1
    assert list(shares) == sorted(shares, reverse=True)
    assert set(known["landmarks"]) < {mesh.name(i) for i in range(468)}


def test_pictures_come_as_jpeg_with_the_face_painted(server, video):
    next(s for s in itertools.islice(states(server), 60) if s["probability"] is not None)
    _, headers, answer = ask(server, "/pictures")
    assert headers["Content-Type"] == "multipart/x-mixed-replace; boundary=picture"
    with answer:
        assert answer.readline() == b"--picture\r\n"
        assert answer.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(answer.readline().split(b":")[1])
        assert answer.readline() == b"\r\n"
        picture = cv2.imdecode(np.frombuffer(answer.read(length), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (*SIZE[::-1], 3)
    capture = cv2.VideoCapture(str(video))
    centre = np.s_[80:160, 120:200]
    plain = [capture.read()[1][centre].mean((0, 1)) for _ in range(30)]
    # The wash of viridis is poorer in red than any skin.
    assert picture[centre].mean((0, 1))[2] < min(color[2] for color in plain)


def test_a_video_begins_again_when_it_ends(server):
    """It lasts one second."""
    begin = time.monotonic()
    late = next(state for state in states(server) if time.monotonic() - begin > 1.5)
    assert late["frames_per_second"] > 0


def test_the_page_needs_nothing_else_and_is_kept_from_other_sites(server):
    status, headers, answer = ask(server)
    page = answer.read().decode()
    assert status == 200
    assert "http://" not in page
    assert "https://" not in page
    assert "--paper: #fbfaf8" in page  # the report's colours
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", ["/", "/pictures", "/states"])
@pytest.mark.parametrize("host", ["example.org", "127.0.0.1", "127.0.0.1.example.org:{port}", ""])
def test_another_name_is_refused(server, path, host):
    port = server.server_address[1]
    assert ask(server, path, host.format(port=port))[0] == 403
    assert ask(server, "/", f"localhost:{port}")[0] == 200


def test_other_paths_and_methods_are_refused(server):
    assert ask(server, "/../../etc/passwd")[0] == 404
    assert ask(server, "/", method="POST")[0] == 501


def test_only_this_machine_is_listened_to(server):
    address, port = server.server_address
    assert address == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_who_is_slow_gets_the_newest():
    place: Newest[int] = Newest()
    values = iter(place)
    place.put(1)
    assert next(values) == 1
    for value in range(2, 100):
        place.put(value)
    assert next(values) == 99
    waiting = []
    thread = threading.Thread(target=lambda: waiting.extend(values))
    thread.start()
    place.close()
    thread.join(5)
    assert not thread.is_alive()
    assert waiting == []


def test_a_slow_detector_drops_frames_and_does_not_lag(video, exported, monkeypatch):
    """At a third of a second a frame, each frame is the one that plays at that moment."""
    seen = []

    class Slow(FaceDetector):
        def detect(self, seconds, frame):
            seen.append((time.monotonic(), seconds))
            time.sleep(0.3)
            return {}

    monkeypatch.setattr(watch, "FaceDetector", Slow)
    with Watcher(video, exported, seconds=1, face_model=None) as watcher:
        for state in itertools.islice(watcher.states, 4):
            assert state.explanation is None
    assert state.status == "no face in sight"
    times, played = np.array(seen[1:]).T
    assert len(times) >= 3
    assert (np.diff(played) > 0.2).all()
    np.testing.assert_allclose(played - played[0], times - times[0], atol=0.25)


def test_what_fails_in_a_thread_is_raised(video, exported, monkeypatch):
    class Broken(FaceDetector):
        def detect(self, seconds, frame):
            raise RuntimeError("no more")

    monkeypatch.setattr(watch, "FaceDetector", Broken)
    with pytest.raises(RuntimeError, match="no more"):
        live(video, exported)


def test_wrong_arguments_are_named(video, exported, tmp_path, server):
    for changes, error, message in (
        ({"seconds": 0}, ValueError, "seconds: expected a positive number, got 0"),
        ({"source": tmp_path / "none.mp4"}, FileNotFoundError, "video: expected a video file"),
        ({"source": -1}, ValueError, "video: expected a camera's index from 0, got -1"),
        ({"model": tmp_path / "none.pt"}, FileNotFoundError, "model: expected a TorchScript file"),
        ({"port": server.server_address[1]}, ValueError, "port: expected a free port, got"),
        ({"port": 99999}, ValueError, "port: expected a free port, got 99999"),
    ):
        with pytest.raises(error, match=message):
            live(**{"source": video, "model": exported} | changes)


def test_ctrl_c_stops_it_and_leaves_nothing(video, exported, tmp_path):
    command = [sys.executable, "-u", "-c", "from fastexai.cli import main; main()"]
    words = ["live", str(video), "--model", str(exported)]
    process = subprocess.Popen(
        [*command, *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    url = process.stdout.readline().split()[1]
    with urllib.request.urlopen(f"{url}pictures", timeout=20) as pictures:
        assert pictures.readline() == b"--picture\r\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert out == "stopped\n"
    assert err == ""
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_shows_it_in_a_browser(server, browser, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints, asked = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    # Not wait_for_function: it evaluates strings, which the page's policy forbids.
    page.locator("#probability", has_text="%").wait_for()
    assert page.inner_text("#emotion") == "happiness"
    assert page.locator("#regions tr").count() == 5
    assert page.locator("#landmarks li").count() == 5
    assert page.evaluate("document.querySelector('#picture').naturalWidth") == SIZE[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first thing to reach is the button
    assert page.inner_text("#status") == "paused"
    still = page.inner_text("#probability"), page.get_attribute("#picture", "src")
    page.wait_for_timeout(500)
    assert (page.inner_text("#probability"), page.get_attribute("#picture", "src")) == still
    assert still[1].startswith("data:image/jpeg")
    page.keyboard.press("Enter")
    page.locator("#status", has_text="watching").wait_for()
    page.close()
    assert complaints == []
    assert all(url.startswith((server.url, "data:")) for url in asked)
