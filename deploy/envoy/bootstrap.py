"""Envoy's bootstrap configuration: four listeners, the services behind them, and how connections are treated."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.envoy import files, filters, local_replies, methods, metrics, page, reference, routes, secrets
from deploy.envoy.edge import Edge, Json, Upstream, typed

# Headers that only the mesh itself may set; a client's are dropped before anything reads them.
_INTERNAL_PREFIXES: Final = ("x-jwt-", "x-finid-", "x-envoy-", "x-forwarded-")
# A path that a service understood is the name of a method; any other may hold anything and is not written down.
_METHOD_PATH: Final = r"/finid\.[a-z]+\.v1\.[A-Za-z]+/[A-Za-z]+"
# No query, no body, no cookie, no token, nobody's address.
_ACCESS_LOG: Final = {
    "time": "%START_TIME%",
    "route": "%ROUTE_NAME%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "grpc_status": "%GRPC_STATUS%",
    "flags": "%RESPONSE_FLAGS%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "trace_id": "%TRACE_ID%",
}
_MAX_CONNECTIONS: Final = 4000
_COLLECTOR: Final = "otlp"
_LOOPBACK: Final = "127.0.0.1"


def render(edge: Edge) -> str:
    """The configuration as JSON."""
    return json.dumps(bootstrap(edge), indent=2)


def bootstrap(edge: Edge) -> Json:
    """The configuration as data."""
    return {
        # Envoy asks for both where certificates come from files of their own.
        "node": {"id": "envoy", "cluster": "finid"},
        "admin": {"address": _address(_LOOPBACK, edge.admin_port)},
        "overload_manager": {"resource_monitors": [_connection_limit()]},
        "static_resources": {
            "listeners": [_https_listener(edge), _page_listener(edge), _pki_listener(edge), _metrics_listener(edge)],
            "clusters": [
                _mesh_cluster(edge, routes.GATEWAY, edge.gateway, _HTTP2),
                _mesh_cluster(edge, routes.PORTAL, edge.portal, _HTTP1),
                _collector(edge.otlp_address),
                _cluster(metrics.ADMIN, [_endpoint(_LOOPBACK, edge.admin_port)], _HTTP1),
            ],
        },
    }


def _https_listener(edge: Edge) -> Json:
    every = [*methods.routes(edge.openapi), *reference.routes(edge), *routes.https_routes(edge)]
    manager = _connection_manager(edge, "https", every, filters.https_filters(edge))
    return _tls_listener(edge, "https", edge.https_port, manager)


def _page_listener(edge: Edge) -> Json:
    manager = _connection_manager(
        edge, "page", page.routes(edge.library), filters.page_filters(edge), replies=local_replies.PAGE_REPLIES
    )
    return _tls_listener(edge, "page", edge.page_port, manager)


def _tls_listener(edge: Edge, name: str, port: int, manager: Json) -> Json:
    tls = typed(
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            **_own_certificate(edge, secrets.WEB, edge.web_certificate, edge.web_key),
        },
    )
    chain = {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls}, "filters": [manager]}
    return _listener(name, edge.host, port, chain)


def _pki_listener(edge: Edge) -> Json:
    manager = _connection_manager(
        edge,
        "pki",
        [*methods.routes(edge.openapi, "/pki/"), *routes.pki_routes()],
        filters.pki_filters(edge),
        _SLASHES_ARE_LETTERS,
    )
    return _listener("pki", edge.host, edge.pki_port, {"filters": [manager]})


def _metrics_listener(edge: Edge) -> Json:
    listener = _listener(metrics.NAME, edge.host, edge.metrics_port, {"filters": [metrics.filter_()]})
    # An Envoy that is full can still be looked at.
    return {**listener, "bypass_overload_manager": True}


def _listener(name: str, host: str, port: int, chain: Json) -> Json:
    return {
        "name": name,
        "address": _address(host, port),
        "per_connection_buffer_limit_bytes": 1024 * 1024,
        "filter_chains": [chain],
    }


# A status that is asked for in the path is base64 there, in which slashes are letters (RFC 6960 appendix A.1). The
# plain HTTP listener serves nothing that needs a token; on the other, a slash is a slash.
_SLASHES_ARE_LETTERS: Final = {"merge_slashes": False, "path_with_escaped_slashes_action": "KEEP_UNCHANGED"}
_SLASHES_ARE_SLASHES: Final = {"merge_slashes": True, "path_with_escaped_slashes_action": "REJECT_REQUEST"}


def _connection_manager(
    edge: Edge,
    name: str,
    route_list: list[Json],
    http_filters: list[Json],
    paths: Json = _SLASHES_ARE_SLASHES,
    replies: Sequence[local_replies.LocalReply] = local_replies.LOCAL_REPLIES,
) -> Json:
    hosts = {
        "name": name,
        "domains": ["*"],
        "routes": route_list,
        "response_headers_to_add": [
            _response_header("strict-transport-security", "max-age=31536000"),
            _response_header("x-content-type-options", "nosniff"),
            _response_header("cache-control", "no-store"),
        ],
    }
    config = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        server_name="finid",
        # A path means one thing to every filter and to the services.
        normalize_path=True,
        **paths,
        common_http_protocol_options={
            "headers_with_underscores_action": "REJECT_REQUEST",
            "idle_timeout": "300s",
            "max_headers_count": 80,
        },
        http2_protocol_options={"max_concurrent_streams": 100},
        request_headers_timeout="10s",
        request_timeout="60s",
        # A person may take her time within a stream; the route's max_stream_duration ends it.
        stream_idle_timeout=f"{routes.STREAM_S}s",
        # We are the edge: no forwarding header is believed, though callers on loopback look internal.
        use_remote_address=True,
        early_header_mutation_extensions=[_drop_internal_headers()],
        local_reply_config=local_replies.configuration(replies),
        access_log=[_access_log({"method": "%REQ(:PATH)%"}, is_method=True), _access_log({}, is_method=False)],
        tracing=_tracing(edge),
        http_filters=http_filters,
        route_config={
            "name": name,
            "virtual_hosts": [hosts],
            "max_direct_response_body_size_bytes": files.MAX_FILE_BYTES,
        },
    )
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _drop_internal_headers() -> Json:
    mutations = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in _INTERNAL_PREFIXES]
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": typed(
            "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=mutations
        ),
    }


def _access_log(more: Json, *, is_method: bool) -> Json:
    path = {"name": ":path", "string_match": {"safe_regex": {"regex": _METHOD_PATH}}, "invert_match": not is_method}
    return {
        "name": "envoy.access_loggers.stdout",
        "filter": {"header_filter": {"header": path}},
        "typed_config": typed(
            "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
            log_format={"json_format": more | _ACCESS_LOG},
        ),
    }


def _tracing(edge: Edge) -> Json:
    # Without a collector nothing is sampled, and W3C trace contexts are still made and passed on.
    collector = {"envoy_grpc": {"cluster_name": _COLLECTOR}, "timeout": "1s"}
    tracer = typed("envoy.config.trace.v3.OpenTelemetryConfig", service_name="envoy", grpc_service=collector)
    return {
        "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer},
        "random_sampling": {"value": 100 * edge.trace_ratio if edge.otlp_address else 0},
        "max_path_tag_length": 64,
        # In place of Envoy's own, which hold whatever a caller puts into path, query and user agent.
        "custom_tags": [{"tag": "http.url", "value": "%ROUTE_NAME%"}, {"tag": "user_agent", "value": "-"}],
    }


_HTTP1: Final[Json] = {"http_protocol_options": {}}
_HTTP2: Final[Json] = {"http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}}


def _mesh_cluster(edge: Edge, name: str, upstream: Upstream, protocol: Json) -> Json:
    tls = typed(
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        sni=upstream.server_name,
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            **_own_certificate(edge, secrets.MESH, edge.mesh_certificate, edge.mesh_key),
            **_believed(edge, upstream),
            "alpn_protocols": ["h2"] if protocol is _HTTP2 else ["http/1.1"],
        },
    )
    return {
        **_cluster(name, [_endpoint(upstream.host, upstream.port)], protocol),
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }


def _own_certificate(edge: Edge, name: str, certificate: Path, key: Path) -> Json:
    if edge.secrets is not None:
        return {"tls_certificate_sds_secret_configs": [secrets.reference(edge, name)]}
    files = {"certificate_chain": {"filename": str(certificate)}, "private_key": {"filename": str(key)}}
    return {"tls_certificates": [files]}


def _believed(edge: Edge, upstream: Upstream) -> Json:
    # The root alone would let any service of the mesh stand in for any other.
    named = {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": upstream.uri}}]}
    if edge.secrets is None:
        return {"validation_context": {"trusted_ca": {"filename": str(edge.mesh_root)}} | named}
    return {
        "combined_validation_context": {
            "default_validation_context": named,
            "validation_context_sds_secret_config": secrets.reference(edge, secrets.MESH_ROOTS),
        }
    }


def _collector(address: str) -> Json:
    """The cluster that traces go to; without an address it has no endpoint, for the tracer needs one by name."""
    host, _, port = address.rpartition(":")
    return _cluster(_COLLECTOR, [_endpoint(host, int(port))] if address else [], {"http2_protocol_options": {}})


def _cluster(name: str, endpoints: list[Json], protocol: Json) -> Json:
    protocols = typed("envoy.extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config=protocol)
    return {
        "name": name,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocols},
    }


def _endpoint(host: str, port: int) -> Json:
    return {"endpoint": {"address": _address(host, port)}}


def _connection_limit() -> Json:
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": typed(
            "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=_MAX_CONNECTIONS,
        ),
    }


def _address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def _response_header(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "ADD_IF_ABSENT"}
