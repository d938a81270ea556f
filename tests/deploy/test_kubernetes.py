"""The manifests: each is judged by Kubernetes' own schemas, and agrees with what the gateway does."""

import copy
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from gateway.config import Settings
from gateway.serving.memory import fitted
from gateway.telemetry import METRICS
from tests.deploy.topology import DEPLOY

K8S: Final = DEPLOY / "k8s"
OVERLAYS: Final = sorted((K8S / "overlays").iterdir())
VERSIONS: Final = ("1.30", "1.34")
"""The oldest Kubernetes that sleeps before a stop by itself, and one that is new."""
SETTLE_SECONDS: Final = 10
Document = dict[str, Any]


def read(path: Path) -> Document:
    document: Document = yaml.safe_load(path.read_text())
    return document


def resources(folder: Path) -> dict[tuple[str, str], Document]:
    """What the kustomization in *folder* makes, by kind and name."""
    kustomization, made = read(folder / "kustomization.yaml"), dict[tuple[str, str], Document]()
    for name in kustomization["resources"]:
        path = (folder / name).resolve()
        found = resources(path) if path.is_dir() else {_identity(read(path)): read(path)}
        made |= copy.deepcopy(found)
    for patch in kustomization.get("patches", []):
        change = read(folder / patch["path"])
        made[_identity(change)] = _patched(made[_identity(change)], change)
    return made


def _identity(document: Document) -> tuple[str, str]:
    return document["kind"], document["metadata"]["name"]


def _patched(before: Any, change: Any) -> Any:
    """A strategic merge as far as our patches need it: lists of named things merge by their names."""
    if isinstance(before, dict) and isinstance(change, dict):
        merged = {**before, **{name: _patched(before.get(name), value) for name, value in change.items()}}
        return {name: value for name, value in merged.items() if value is not None}
    if isinstance(before, list) and all("name" in item for item in [*before, *change] if isinstance(item, dict)):
        named = {item["name"]: item for item in before}
        return list((named | {item["name"]: _patched(named.get(item["name"]), item) for item in change}).values())
    return change


PRODUCTION: Final = resources(K8S / "overlays" / "production")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", [K8S / "base", *OVERLAYS], ids=lambda folder: folder.name)
def test_every_manifest_is_one_to_kubernetes(folder: Path, version: str) -> None:
    made = resources(folder)

    assert {"Deployment", "Service", "Ingress", "NetworkPolicy", "PodDisruptionBudget"} <= {kind for kind, _ in made}
    for document in made.values():
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_notice_what_is_misspelled() -> None:
    document = copy.deepcopy(PRODUCTION["Deployment", "upload-gateway"])
    document["spec"]["template"]["spec"]["terminationGraceSeconds"] = 75

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[0], strict=True)


def test_every_file_belongs_to_a_kustomization() -> None:
    used: set[Path] = set()
    for kustomization in K8S.rglob("kustomization.yaml"):
        named = read(kustomization)
        names = [*named["resources"], *(patch["path"] for patch in named.get("patches", []))]
        used |= {kustomization, *((kustomization.parent / name).resolve() for name in names)}

    assert {path for path in K8S.rglob("*") if path.is_file()} == {path for path in used if path.is_file()}


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_a_pod_has_the_time_to_drain_before_it_is_killed(folder: Path) -> None:
    made = resources(folder)
    pod = made["Deployment", "upload-gateway"]["spec"]["template"]["spec"]
    told = made["ConfigMap", "upload-gateway"]["data"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert pod["terminationGracePeriodSeconds"] >= pause + float(told["GATEWAY_DRAIN_SECONDS"]) + SETTLE_SECONDS
    readiness = pod["containers"][0]["readinessProbe"]
    assert float(told["GATEWAY_DRAIN_NOTICE_SECONDS"]) > 2 * readiness["periodSeconds"] * readiness["failureThreshold"]


def test_a_pod_may_do_nothing_but_serve() -> None:
    pod = PRODUCTION["Deployment", "upload-gateway"]["spec"]["template"]["spec"]
    [container] = pod["containers"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_the_probes_and_the_doors_are_where_the_gateway_listens() -> None:
    [container] = PRODUCTION["Deployment", "upload-gateway"]["spec"]["template"]["spec"]["containers"]
    told = PRODUCTION["ConfigMap", "upload-gateway"]["data"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]

    assert {f"0.0.0.0:{port}" for port in ports.values()} == {
        told[f"GATEWAY_{name}"] for name in ("LISTEN", "COS_LISTEN", "ADMIN_LISTEN")
    }
    assert [(probe["path"], probe["port"]) for probe in probes] == [
        ("/livez", "admin"),
        ("/readyz", "admin"),
        ("/livez", "admin"),
    ]
    for door in PRODUCTION["Service", "upload-gateway"]["spec"]["ports"]:
        assert door["targetPort"] in ports
        assert door["targetPort"] != "admin"


def test_the_autoscaler_reads_a_metric_that_there_is() -> None:
    scaler = PRODUCTION["HorizontalPodAutoscaler", "upload-gateway"]["spec"]

    assert [METRICS[metric["pods"]["metric"]["name"]].kind for metric in scaler["metrics"]] == ["gauge"]
    assert "replicas" not in PRODUCTION["Deployment", "upload-gateway"]["spec"], "two would set them"


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_no_secret_is_in_a_manifest(folder: Path) -> None:
    """What the settings hide comes by reference only."""
    made = resources(folder)
    told = dict(made["ConfigMap", "upload-gateway"]["data"])
    [container] = made["Deployment", "upload-gateway"]["spec"]["template"]["spec"]["containers"]
    told |= {item["name"]: item.get("value") for item in container.get("env", [])}
    hidden = {
        f"GATEWAY_{name.upper()}" for name, field in Settings.model_fields.items() if "Secret" in repr(field.annotation)
    }

    assert "GATEWAY_TOKEN_SECRET" in hidden
    assert told.keys() & hidden == set()
    assert not any(kind == "Secret" for kind, _ in made)
    assert {"secretRef": {"name": "upload-gateway"}} in container["envFrom"]


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_the_settings_work_once_the_secrets_are_there(folder: Path) -> None:
    made = resources(folder)
    [container] = made["Deployment", "upload-gateway"]["spec"]["template"]["spec"]["containers"]
    told = dict(made["ConfigMap", "upload-gateway"]["data"])
    told |= {item["name"]: item["value"] for item in container.get("env", [])}
    told |= {
        "GATEWAY_COS_SECRET_ID": "id",
        "GATEWAY_COS_SECRET_KEY": "key",
        "GATEWAY_REDIS_URL": "rediss://redis.redis:6379/0",
        "GATEWAY_TOKEN_SECRET": "0123456789abcdef0123456789abcdef",
    }
    settings = Settings(**{name.removeprefix("GATEWAY_").lower(): value for name, value in told.items()})
    [limit] = [int(container["resources"]["limits"]["memory"].removesuffix("Mi"))]

    assert settings.problems() == []
    assert limit >= 96 + (settings.memory_budget_bytes >> 20) + 2 * (settings.replay_budget_bytes >> 20)
    assert fitted(settings, limit << 20) == settings, "as many bodies at once as fit"


def test_s10_an_ingress_bounds_what_one_address_does_as_our_own_nginx_does() -> None:
    told = PRODUCTION["Ingress", "upload-gateway"]["metadata"]["annotations"]
    rules = (DEPLOY / "nginx" / "limits.conf").read_text()

    assert f"limit_conn requests {told['nginx.ingress.kubernetes.io/limit-connections']};" in rules
    assert f"rate={told['nginx.ingress.kubernetes.io/limit-rps']}r/s;" in rules


@pytest.mark.parametrize("version", VERSIONS)
def test_s15_what_the_ingress_controller_is_told_is_a_manifest_too(version: str) -> None:
    [document] = resources(K8S / "ingress-nginx").values()

    kubernetes_validate.validate(document, version, strict=True)


def test_s22_the_example_trusts_no_whole_network() -> None:
    told = PRODUCTION["ConfigMap", "upload-gateway"]["data"]["GATEWAY_TRUSTED_PROXIES"]

    assert [ip_network(one).prefixlen >= 24 for one in told.split(",")] == [True]
