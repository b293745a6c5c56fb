"""`adapterlab report --serve`: a page on this machine alone that follows a study while it runs."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.report.live import LivePage, serving
from tests.lab.tiny import save_study


@pytest.fixture
def page():
    page = LivePage("mine <b>")
    page.show("<!doctype html><html><body><p>one</p></body></html>", "1 trial done")
    return page


@pytest.fixture
def port(page):
    with serving(page) as address:
        yield int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", address)[1])


def ask(port: int, path: str = "/", method: str = "GET", **headers: str):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, text in headers.items():
        connection.putheader(name, text)
    connection.endheaders()
    return connection.getresponse()


def test_the_page_is_sent_whole_and_is_never_stored(port):
    answer = ask(port)
    text = answer.read().decode()
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<p>one</p>" in text
    assert text.endswith("</script>\n</body></html>")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost", "127.0.0.1:1", ""])
def test_another_host_is_refused(port, host):
    for path in ("/", "/events", "/x"):
        answer = ask(port, path, Host=host)
        assert answer.status == 403
        assert b"<p>one" not in answer.read()


def test_this_machine_has_two_names(port):
    for name in ("127.0.0.1", "localhost", "LOCALHOST"):
        assert ask(port, Host=f"{name}:{port}").status == 200


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "PROPFIND"])
def test_only_get_is_answered(port, method):
    answer = ask(port, method=method)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "path", ["/report.html", "/ledger.sqlite", "/../ledger.sqlite", "/events/", "/?x", "/%2e%2e/etc/passwd", "*"]
)
def test_no_file_is_served(port, path):
    assert ask(port, path).status == 404


def test_it_listens_on_this_machine_alone(port):
    import socket

    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    for address in own:
        if not address.startswith("127."):
            with pytest.raises(OSError):
                socket.create_connection((address, port), timeout=2).close()


def events(answer, count: int) -> list[dict]:
    found = []
    while len(found) < count:
        line = answer.fp.readline().decode()
        if line.startswith("data: "):
            found.append(json.loads(line.removeprefix("data: ")))
    return found


def test_changes_are_told_as_they_happen(port, page):
    answer = ask(port, "/events")
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    (first,) = events(answer, 1)
    assert first["progress"] == "1 trial done"
    page.show("<p>one</p>", "2 trials done </script>")
    page.show("<p>one</p>", "3 trials done", finished=True)
    last = events(answer, 1)[-1]
    while not last["finished"]:
        last = events(answer, 1)[-1]
    assert last["progress"] == "3 trials done"
    assert last["version"] != first["version"]


def test_a_state_cannot_end_the_script(page):
    page.show("<p>x</p>", "</script><script>alert(1)</script>")
    assert page.html.count("</script>") == 1


def test_a_title_is_text(page):
    page.show_progress("lora <i>", "nothing yet")
    assert "<h1>mine &lt;b&gt;</h1>" in page.html
    assert "lora &lt;i&gt;" in page.html


def test_streams_end_with_the_server(page):
    with serving(page) as address:
        answer = ask(int(address.split(":")[2].strip("/")), "/events")
        events(answer, 1)
    assert answer.fp.read().strip() == b""
    assert not [thread for thread in threading.enumerate() if "serve_forever" in thread.name]


def test_a_port_in_use_is_one_line(port, page):
    with pytest.raises(AdapterlabError, match=f"port {port} cannot be used .*give another --port"), serving(page, port):
        pass


@contextmanager
def started(*arguments: str, cwd):
    """A process of the program, killed at the end if it has not ended."""
    command = [sys.executable, "-W", "ignore", "-m", "adapterlab", *arguments]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@contextmanager
def chromium():
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1000,700"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        yield browser


def until(what, seconds: float = 300.0):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.2)
    return found


@pytest.mark.browser
def test_the_browser_follows_a_study_that_runs(tmp_path):
    """The study stops after some trials; the page shows the progress, then the report, and keeps the reader's place."""
    study = save_study(tmp_path, steps=40, more='\n[[contestants]]\nadapter = "vera"\nsettings = {rank = 3}\n')
    text = study.read_text().replace("regret_sample = 1", "regret_sample = 0")
    study.write_text(text)
    folder = tmp_path / "runs/tiny"
    with chromium() as browser:
        with started("run", str(study), "--workers", "1", cwd=tmp_path) as run:
            until(lambda: (folder / "ledger.sqlite").is_file() and len(Ledger(folder / "ledger.sqlite")) > 2)
            run.send_signal(signal.SIGINT)
            run.communicate(timeout=120)
        with started("report", str(folder), "--serve", cwd=tmp_path) as server:
            line = server.stdout.readline()
            address = re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
            browser.get(address)

            def bar() -> str:
                return browser.execute_script("return document.getElementById('adapterlab-live').textContent")

            assert "no run is under way" in bar()
            assert "Too few contests are finished" in browser.page_source
            browser.execute_script("window.mine = true")
            with started("run", str(study), "--workers", "1", cwd=tmp_path) as run:
                until(lambda: "left" in bar())
                until(lambda: "This study is not finished" in browser.page_source)
                browser.execute_script("location.hash = 'x'; scrollTo({top: 500, behavior: 'instant'})")
                place = browser.execute_script("return scrollY")
                assert place > 100
                until(lambda: "the study is complete" in bar())
                until(lambda: "This study is not finished" not in browser.page_source)
                assert run.wait(timeout=300) == 0
            assert not browser.execute_script("return window.mine === true")
            assert browser.execute_script("return location.hash") == "#x"
            assert abs(until(lambda: browser.execute_script("return scrollY")) - place) < 2
            assert "vera" in browser.find_element("tag name", "main").text
            errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
            assert [entry for entry in errors if "favicon" not in entry["message"]] == []
            server.send_signal(signal.SIGINT)
            said, complaints = server.communicate(timeout=120)
            assert server.returncode == 0
            assert "Stopped following" in said
            assert "Traceback" not in complaints
            until(lambda: "has ended" in bar())
    assert (folder / "report.html").is_file()
