"""Whatever a document holds, it is a declaration or it is Invalid; whatever is declared is read back from its record."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bayplan.errors import Invalid
from bayplan.model import yaml12
from bayplan.model.compose import parse_declaration
from bayplan.model.merging import merge, settled
from bayplan.model.network import network_document, parse_network
from bayplan.model.service import COMPOSE_KEYS, RECORDED, parse_service, service_document
from bayplan.model.volume import parse_volume, volume_document

SETTINGS = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
_TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "80:80", "a:/b", "/x", "./x", "~", "1m", "10s", "a=b", "host", "no", "$x", "[::1]:1:1", "\0", "a\nb", "-1"]),
)
_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-5, 2**70), st.floats(), _TEXTS)
_KEYS = st.one_of(
    st.sampled_from(
        ["target", "source", "type", "published", "test", "driver", "options", "soft", "hard", "condition", "limits", "resources",
         "aliases", "external", "name", "file", "config", "subnet", "gateway", "ipam", "state", "known", "path", "labels"]
    ),
    st.text(max_size=5),
)  # fmt: skip
VALUES = st.recursive(
    _LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)), max_leaves=8
)
_SERVICE = st.dictionaries(st.one_of(st.sampled_from(sorted(COMPOSE_KEYS)), st.text(max_size=4)), VALUES, max_size=5)
_TOP = {
    "services": st.one_of(
        VALUES, st.dictionaries(st.sampled_from(["web", "db", "-"]), _SERVICE.map(lambda s: {"image": "x", **s}), max_size=2)
    ),
    "networks": st.one_of(VALUES, st.dictionaries(_TEXTS, VALUES, max_size=2)),
    "volumes": st.one_of(VALUES, st.dictionaries(_TEXTS, VALUES, max_size=2)),
    "secrets": VALUES,
    "configs": VALUES,
    "name": st.one_of(st.just("app"), VALUES),
    "x-bayplan": st.one_of(st.just({"project_directory": "/srv"}), VALUES),
}


@SETTINGS
@given(st.fixed_dictionaries({}, optional=_TOP))
def test_any_mapping_is_a_declaration_or_invalid(document: dict[str, Any]) -> None:
    with suppress(Invalid):
        parse_declaration(document)


@SETTINGS
@given(_SERVICE)
def test_what_is_declared_is_read_back_from_its_record(service: dict[str, Any]) -> None:
    with suppress(Invalid):
        spec = parse_service("web", {"image": "x", **service})
        recorded = spec._replace(files=tuple(file._replace(content="") for file in spec.files))
        assert parse_service("web", service_document(spec), RECORDED) == recorded, "the record says what was declared"


@SETTINGS
@given(VALUES)
def test_networks_and_volumes_are_read_back_from_their_records(value: Any) -> None:
    with suppress(Invalid):
        network = parse_network("net", value)
        assert parse_network("net", network_document(network)) == network, "the record says what was declared"
    with suppress(Invalid):
        volume = parse_volume("vol", value)
        assert parse_volume("vol", volume_document(volume)) == volume, "the record says what was declared"


@SETTINGS
@given(VALUES, VALUES)
def test_any_two_documents_merge_or_are_invalid(base: Any, over: Any) -> None:
    with suppress(Invalid):
        merged = settled(merge({"services": base}, {"services": over}))
        assert "services" in merged, "merging loses no key"


@SETTINGS
@given(st.one_of(st.text(max_size=60), st.text(alphabet="ab:-[]{}&*!<>|?,\"'#%@ \n\t01", max_size=60)))
def test_any_text_is_yaml_or_invalid(text: str) -> None:
    with suppress(Invalid):
        yaml12.load(text, "x")
