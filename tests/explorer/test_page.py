"""The page as a visitor has it: the real server, a real browser, every request watched."""

import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from deesc_model import EscalationPolicy
from training import corpus

pytest.importorskip("gradio", reason="the explorer needs the extra ui")
sync_api = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
TALK = "Customer: the parcel is late !\nAgent: the parcel is fine .\nCustomer: again ? <b>late</b>"
# Loaded by Python before the server: notes what it connects to, looks up and writes.
SPY = """
import os, sys
notes = os.open(os.environ["DEESC_SPY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def spy(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1 if event == "socket.connect" else 0]
        os.write(notes, f"{event} {address}\\n".encode())
    elif event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        os.write(notes, f"write {arguments[0]}\\n".encode())
    elif event in ("os.mkdir", "os.rename"):
        os.write(notes, f"{event} {arguments[0]}\\n".encode())
sys.addaudithook(spy)
"""


@pytest.fixture(scope="module")
def notes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spy")
    (folder / "sitecustomize.py").write_text(SPY)
    return folder / "notes"


@pytest.fixture(scope="module")
def address(tiny_bundle, notes):
    """Where the server listens."""
    environment = {
        **os.environ,
        "PYTHONPATH": f"{notes.parent}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "DEESC_SPY": str(notes),
    }
    command = [sys.executable, "-m", "explorer", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [*command, "--bundle", str(tiny_bundle), "--bundle", str(ROOT / "models/fast")],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), process.communicate(timeout=10)
        yield line.split()[0]
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
    told = errors.splitlines()  # of both models, whose versions the shipped risk does not know
    assert len(told) == 2
    assert all(line.startswith("the risk was fitted to deesc-mpnet@") for line in told)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def choose(page, picker, name, content):
    page.locator(picker).set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": content}
    )


def test_a_visit(address, browser, notes, tmp_path):  # noqa: PLR0915
    expect = sync_api.expect
    expect.set_options(timeout=60_000)  # a busy machine must not fail it
    page = browser.new_page()
    page.set_default_timeout(60_000)
    asked, complaints = [], []
    started = len(notes.read_text().splitlines())  # imports make folders; no text is there yet
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    turns, problem = page.locator(".turn"), page.get_by_role("alert")

    page.get_by_role("textbox", name="Transcript Lines").fill("nothing that anybody said")
    page.get_by_role("button", name="Read the pasted text").click()
    expect(problem).to_contain_text("it fits no format that deesc reads")
    page.get_by_role("textbox", name="Transcript Lines").fill(TALK)
    page.get_by_role("button", name="Read the pasted text").click()
    expect(turns).to_have_count(3)
    expect(turns.nth(0)).to_contain_text("delay 0.98")
    expect(turns.nth(2)).to_contain_text("<b>late</b>")
    expect(turns.nth(0).locator("mark").first).to_have_text("late")
    expect(turns.nth(2).locator("mark")).to_have_count(0)
    page.get_by_role("button", name="Mark the words").click()
    expect(turns.nth(2).locator("mark").first).to_have_text("again")
    expect(page.locator("svg .point")).to_have_count(2)

    choose(page, "#transcript-file", "wrong.json", b'{"some": "thing"}')
    expect(problem).to_contain_text("wrong.json: it fits no format")
    choose(page, "#policy-file", "wrong.toml", b"watch_at = 2")
    expect(problem).to_contain_text("wrong.toml: the key 'de_escalate_at' is missing")
    expect(turns).to_have_count(3)
    policy = EscalationPolicy.read()
    eager = policy.to_toml().replace(f"watch_at = {policy.watch_at}", "watch_at = 0.0")
    choose(page, "#policy-file", "eager.toml", eager.encode())
    expect(turns.nth(0)).to_contain_text("watch from 0.00")

    page.get_by_role("tab", name="Turn by turn").click()
    page.get_by_label("Said").fill("idiot manager")
    page.get_by_label("Said").press("Enter")
    expect(turns).to_have_count(4)
    expect(turns.nth(3)).to_contain_text("4 abusive")
    expect(turns.nth(3)).to_contain_text("hand over")
    expect(page.get_by_label("Said")).to_have_value("")

    page.get_by_label("3 angry").check()
    page.get_by_role("button", name="These labels are right").click()
    expect(problem).to_contain_text("turn 4: personal_abuse and harm_threat come only with level 4")
    page.get_by_label("personal abuse").uncheck()
    page.get_by_label("policy", exact=True).check()
    page.get_by_role("button", name="These labels are right").click()
    expect(turns.nth(3)).to_contain_text("checked")
    page.get_by_label("Line of business").fill("delivery")
    page.get_by_label("How the conversation goes").click()
    page.get_by_role("option", name="rises: frustration grows").click()
    page.get_by_role("button", name="Download").click()
    expect(problem).to_contain_text("these turns are not checked yet: 1, 2, 3")
    page.get_by_role("button", name="All other turns are right").click()
    expect(page.get_by_text("all turns are checked")).to_be_visible()
    for name in ("first", "second"):  # the same file twice
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == "delivery.jsonl"
        (tmp_path / name).mkdir()
        download.value.save_as(tmp_path / name / "delivery.jsonl")
        rows = corpus.load_corpus(tmp_path / name)
        assert [row.speaker for row in rows] == ["customer", "agent", "customer", "customer"]
        assert (rows[3].level, rows[3].triggers) == (3, ("delay", "policy"))
        assert (rows[3].signals, rows[3].arc) == (("supervisor_request",), "rises")

    page.get_by_label("Model").click()
    page.get_by_role("option", name="models/fast").click()
    expect(page.locator(".tables + .quiet")).not_to_contain_text("tiny")
    page.get_by_role("button", name="Begin anew").click()
    expect(turns).to_have_count(0)

    kept = page.evaluate(
        "async () => [JSON.stringify(localStorage), JSON.stringify(sessionStorage),"
        " JSON.stringify(await indexedDB.databases())].join()"
    )
    assert "parcel" not in kept
    page.close()
    assert complaints == []
    assert asked
    assert {url for url in asked if not url.startswith((f"{address}/", "blob:", "data:"))} == set()
    noted = notes.read_text().splitlines()[started:]
    # Where matplotlib is installed, Gradio imports it late, and it makes its folders.
    allowed = re.compile(r"127\.0\.0\.1|os\.mkdir .*/matplotlib$")
    assert [line for line in noted if not allowed.search(line)] == []


def test_labels_that_are_still_shown_are_not_taken_for_the_next_turn(address, browser):
    expect = sync_api.expect
    expect.set_options(timeout=60_000)
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    talk = "Customer: fine\nCustomer: the\nCustomer: furious"
    page.get_by_role("textbox", name="Transcript Lines").fill(talk)
    page.get_by_role("button", name="Read the pasted text").click()
    expect(page.get_by_role("radio", name="3 angry")).to_be_checked()
    held = []

    def hold(route):  # the page is told nothing yet of what it asks for
        held.append(route)

    page.route("**/queue/data*", hold)
    page.get_by_label("Turn", exact=True).click()
    with page.expect_response("**/queue/join*"):
        page.get_by_role("option", name="1 customer").click()
    with page.expect_response("**/queue/join*"):
        page.get_by_role("button", name="These labels are right").click()
    assert held
    for route in held:
        route.continue_()
    page.unroute("**/queue/data*")
    expect(page.get_by_role("alert")).to_contain_text("so nothing was taken over")
    expect(page.get_by_role("radio", name="0 calm")).to_be_checked()
    page.get_by_role("button", name="These labels are right").click()
    expect(page.get_by_text("turn 1 is checked")).to_be_visible()
    way = page.get_by_label("How the conversation goes")
    for last in ("late", "the"):  # both begin alike
        way.click()
        page.get_by_role("option", name="rises: frustration grows").click()
        expect(way).to_have_value("rises: frustration grows")
        other = f"Customer: fine\nCustomer: {last}"
        page.get_by_role("textbox", name="Transcript Lines").fill(other)
        page.get_by_role("button", name="Read the pasted text").click()
        expect(way).to_have_value("")  # of another conversation nobody has said it yet
    page.close()


def test_other_names_for_this_machine_are_refused(address):
    request = urllib.request.Request(address, headers={"Host": "evil.example"})  # noqa: S310
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)  # noqa: S310
    with caught.value as answer:
        assert answer.code == 400


def test_a_bundle_that_cannot_be_used_ends_the_start(tmp_path):
    command = [sys.executable, "-m", "explorer", "--port", "0", "--bundle", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--port=99999", "--port must be from 0 to 65535"),
        ("--port=-1", "--port must be from 0 to 65535"),
        ("--threads=0", "--threads must be 1 or more"),
    ],
)
def test_a_number_that_cannot_be_is_wrong_usage(option, said):
    command = [sys.executable, "-m", "explorer", option]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
