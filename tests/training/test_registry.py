"""The registry in a real store, with bundles that cost nothing to make."""

import dataclasses
import getpass
import json
import shutil
from unittest.mock import Mock

import mlflow
import pytest
from tiny_bundle import write_tiny_bundle

from deesc_model import BundleError, EscalationClassifier, MissingExtraError, RegistryError
from deesc_model.bundle import read_bundle
from deesc_model.registry import check_reachable, fetch_bundle
from training import promote, rollback
from training.config import CHAMPION, Config
from training.registry import Registry
from training.tracking import register_bundle

pytestmark = pytest.mark.filterwarnings("ignore", "error:::training")


@pytest.fixture(scope="module")
def registered(tmp_path_factory, empty_store):
    """A store with three versions of the same bundle."""
    folder = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_store, folder / "mlflow.db")
    config = Config(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
        run_dir=str(folder / "run"),
        bundle_dir=str(folder / "bundle"),
    )
    write_tiny_bundle(folder / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert Registry(config).champion() is None
        assert Registry(config).fetch_champion() is None
        versions = [register_bundle(folder / "bundle", config) for _ in range(3)]
        assert versions == ["1", "2", "3"]
        yield config


def flags(config):
    return ["--set", f"tracking_uri={config.tracking_uri}"]


def tags(config, version):
    client = mlflow.MlflowClient(config.tracking_uri)
    return client.get_model_version(config.registered_model, version).tags


def test_the_champion_moves_by_hand_and_back_with_reasons(registered, capsys, monkeypatch):
    registry = Registry(registered)
    assert registry.champion() is None  # registering moved only the challenger
    for version in ("1", "2", "3"):
        arguments = [version, "--reason", f"why {version}", "--author", "ann", *flags(registered)]
        assert promote.main(arguments) == 0
        assert registry.champion() == version
    noted = tags(registered, "3")
    assert noted["promotion.reason"] == "why 3"
    assert noted["promotion.author"] == "ann"
    assert noted["promotion.previous"] == "2"
    assert noted["promotion.time"].endswith("+00:00")
    for expected in ("2", "1"):
        assert rollback.main(["--reason", "worse", "--author", "bob", *flags(registered)]) == 0
        assert registry.champion() == expected
    assert tags(registered, "3")["rollback.reason"] == "worse"
    assert tags(registered, "3")["rollback.to"] == "2"
    assert rollback.main(["--reason", "worse", *flags(registered)]) == 1
    assert "had no champion before version 1" in capsys.readouterr().err
    assert promote.main(["9", "--reason", "x", *flags(registered)]) == 1
    assert registry.champion() == "1"
    monkeypatch.setattr(getpass, "getuser", Mock(side_effect=KeyError("uid not found: 12345")))
    assert promote.main(["2", "--reason", "x", *flags(registered)]) == 1
    assert "say who you are with --author" in capsys.readouterr().err
    assert registry.champion() == "1"


def test_a_bundle_is_found_by_its_content(registered):
    manifest = read_bundle(fetch_bundle_of(registered, "1")).manifest
    registry = Registry(registered)
    for used in ("2", "1"):  # all are the same
        registry.promote(used, "why not")
        assert registry.find(manifest.model_version) == used
    client = mlflow.MlflowClient(registered.tracking_uri)
    client.delete_registered_model_alias(registered.registered_model, CHAMPION)
    assert registry.find(manifest.model_version) == "3"
    registry.promote("1", "as before")
    assert registry.find("other@00000000") is None


def fetch_bundle_of(config, version, **options):
    uri = f"models:/{config.registered_model}/{version}"
    return fetch_bundle(uri, tracking_uri=config.tracking_uri, **options)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "deesc"


def test_a_classifier_comes_from_the_registry_once(registered, cache, monkeypatch):
    uri = f"models:/{registered.registered_model}@challenger"
    classifier = EscalationClassifier.from_registry(uri, tracking_uri=registered.tracking_uri)
    assert int(classifier.predict("furious").level) == 3
    (kept,) = cache.iterdir()
    assert kept.name.startswith("deesc-3-")
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", None)  # not called again
    EscalationClassifier.from_registry(uri, tracking_uri=registered.tracking_uri)


def test_a_damaged_version_in_the_cache_is_downloaded_again(registered, cache):
    folder = fetch_bundle_of(registered, "2")
    (folder / "config.json").write_text("{}")
    assert fetch_bundle_of(registered, "2") == folder
    read_bundle(folder)
    shutil.rmtree(folder)
    folder.mkdir()  # what a careless copy may leave
    assert fetch_bundle_of(registered, "2") == folder
    read_bundle(folder)
    assert list(cache.iterdir()) == [folder]


def test_a_damaged_download_is_never_kept(registered, cache, monkeypatch):
    original = mlflow.artifacts.download_artifacts

    def cut_short(**options):
        whole = original(**options)
        (model,) = (cache / "..").rglob("model.onnx")
        model.write_bytes(model.read_bytes()[:100])
        return whole

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", cut_short)
    with pytest.raises(BundleError, match="damaged"):
        fetch_bundle_of(registered, "2")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("uri", ["deesc", "models:/deesc", "models:/@a", "models:/a/b/c", ""])
def test_a_wrong_uri_is_refused(uri):
    with pytest.raises(RegistryError, match="models:/NAME@ALIAS"):
        fetch_bundle(uri)


def test_what_is_not_there_is_named(registered, deserted):
    with pytest.raises(RegistryError, match="deesc/77"):
        fetch_bundle_of(registered, "77")
    away = f"http://{deserted}"
    with pytest.raises(RegistryError, match="cannot get"):
        fetch_bundle("models:/deesc@champion", tracking_uri=away)
    with pytest.raises(RegistryError, match="cannot reach MLflow"):
        Registry(dataclasses.replace(registered, tracking_uri=away))


def test_without_mlflow_the_pip_command_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"'.\[registry\]"):
        EscalationClassifier.from_registry("models:/deesc@champion")


def test_a_version_without_a_bundle_is_refused(registered, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "MLmodel").write_text(json.dumps({"flavors": {}}))
    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", lambda **_: str(folder))
    with pytest.raises(BundleError, match="holds no bundle"):
        fetch_bundle_of(registered, "1")


def test_what_a_proxy_leads_to_is_not_asked_directly(deserted, monkeypatch):
    uri = f"http://{deserted}"
    with pytest.raises(ConnectionRefusedError):
        check_reachable(uri)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    check_reachable(uri)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        check_reachable(uri)
