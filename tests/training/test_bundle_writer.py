import threading

import pytest

from deesc_model.errors import DeescError
from training import bundle_writer
from training.bundle_writer import check_replaceable, replace_folder


@pytest.mark.parametrize("one_step", [True, False])
def test_a_bundle_is_replaced_without_a_moment_of_absence(tmp_path, monkeypatch, one_step):
    if not one_step:  # a system without renameat2
        monkeypatch.setattr(bundle_writer, "_exchange", lambda *_: False)
    target, absent, done = tmp_path / "bundle", [], threading.Event()

    def watch():
        while not done.is_set():
            if not (target / "number").exists():
                absent.append(1)

    for number in range(200):
        staging = tmp_path / "staging"
        staging.mkdir()
        (staging / "number").write_text(str(number))
        replace_folder(staging, target)
        if number == 0:
            watcher = threading.Thread(target=watch, daemon=True)
            watcher.start()
    done.set()
    watcher.join()
    assert (target / "number").read_text() == "199"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    if one_step:
        assert not absent


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path):
    (tmp_path / "corpus").mkdir()
    check_replaceable(tmp_path / "new")
    check_replaceable(tmp_path / "corpus")
    (tmp_path / "corpus" / "a.jsonl").write_text("precious")
    for target in (tmp_path / "corpus", tmp_path / "corpus" / "a.jsonl"):
        with pytest.raises(DeescError, match="is not a bundle"):
            check_replaceable(target)
