"""HTTP filters, in the order in which a request meets them."""

from collections.abc import Sequence

from deploy.envoy import routes, strict_json
from deploy.envoy.edge import MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, Edge, Json, typed


def https_filters(edge: Edge) -> list[Json]:
    """Rate limit, token, size, strictness, gRPC-Web, JSON, router."""
    return [
        _filter("local_ratelimit", routes.rate_limit("https", edge.requests_per_second)),
        _filter("jwt_authn", _jwt_authn(edge)),
        _buffer_where_routes_ask(),
        _strict_json(edge, routes.PUBLIC_SERVICES, routes.REST),
        _filter("grpc_web", typed("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb")),
        _transcoder(edge, [*routes.PUBLIC_SERVICES, routes.SMS_SERVICE]),
        _filter("router", typed("envoy.extensions.filters.http.router.v3.Router")),
    ]


def page_filters(edge: Edge) -> list[Json]:
    """As https_filters; before them, what changes anything must come from the page itself (its Origin is the host)."""
    whole = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return [
        _filter("csrf", typed("envoy.extensions.filters.http.csrf.v3.CsrfPolicy", filter_enabled=whole)),
        _filter("local_ratelimit", routes.rate_limit("page", edge.requests_per_second)),
        _buffer_where_routes_ask(),
        _strict_json(edge, [routes.CAPTURE_SERVICE], routes.CAPTURE),
        _transcoder(edge, [routes.CAPTURE_SERVICE]),
        _filter("router", typed("envoy.extensions.filters.http.router.v3.Router")),
    ]


def pki_filters(edge: Edge) -> list[Json]:
    """What is open to all: rate limit, size, transcoding, router."""
    return [
        _filter("local_ratelimit", routes.rate_limit("pki", edge.requests_per_second)),
        _buffer_where_routes_ask(),
        _transcoder(edge, [routes.PKI_SERVICE]),
        _filter("router", typed("envoy.extensions.filters.http.router.v3.Router")),
    ]


def _jwt_authn(edge: Edge) -> Json:
    keys = {
        "http_uri": {
            "uri": f"https://{edge.portal.server_name}/.well-known/jwks.json",
            "cluster": routes.PORTAL,
            "timeout": "2s",
        },
        "cache_duration": "60s",
        # Fetched before the first request needs them; a portal that is not up yet is asked again soon.
        "async_fetch": {"failed_refetch_duration": "1s"},
        "retry_policy": {"num_retries": 2},
    }
    provider = {
        "issuer": edge.token_issuer,
        "audiences": [edge.token_audience],  # a token without one passes unchecked where none is asked for
        "require_expiration": True,
        "remote_jwks": keys,
        "from_headers": [{"name": "Authorization", "value_prefix": "Bearer "}],  # never from the query
        "forward": True,  # the gateway verifies it again
    }
    unchecked = [{"match": match} for match in routes.OPEN_TO_ALL]
    # A path that no rule matches would pass unchecked.
    everything_else = {"match": {"prefix": "/"}, "requires": {"provider_name": "portal"}}
    return typed(
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers={"portal": provider},
        rules=[*unchecked, everything_else],
    )


def _strict_json(edge: Edge, services: Sequence[str], route: str) -> Json:
    code = {"inline_string": strict_json.source(edge.descriptors, services, route)}
    return _filter("lua", typed("envoy.extensions.filters.http.lua.v3.Lua", default_source_code=code))


def _transcoder(edge: Edge, services: Sequence[str]) -> Json:
    return _filter(
        "grpc_json_transcoder",
        typed(
            "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
            # Holds google/rpc/error_details.proto: without it an error with details has an empty body.
            proto_descriptor=str(edge.descriptors),
            services=list(services),
            convert_grpc_status=True,
            match_incoming_request_route=True,  # the limits of the path that was asked for hold
            request_validation_options={
                "reject_unknown_method": True,
                "reject_unknown_query_parameters": True,
                "reject_binding_body_field_collisions": True,
            },
            print_options={"always_print_primitive_fields": True},
            max_request_body_size=MAX_REQUEST_BYTES,
            max_response_body_size=MAX_RESPONSE_BYTES,
        ),
    )


def _buffer_where_routes_ask() -> Json:
    limit = typed("envoy.extensions.filters.http.buffer.v3.Buffer", max_request_bytes=MAX_REQUEST_BYTES)
    # Off by default: it would hold a stream back for ever.
    return _filter("buffer", limit) | {"disabled": True}


def _filter(name: str, config: Json) -> Json:
    return {"name": f"envoy.filters.http.{name}", "typed_config": config}
