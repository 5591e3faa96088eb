"""What Prometheus reads of Envoy: its admin's figures on a port of their own, and nothing else of the admin.

The admin port itself stays on loopback: it also shows the configuration and ends the process.
"""

from typing import Final

from deploy.envoy.edge import Json, typed
from deploy.envoy.routes import not_found

ADMIN: Final = "admin"
NAME: Final = "metrics"
# As the services have it, so that one PodMonitor reads all.
_PATH: Final = "/metrics"
_ADMIN_PATH: Final = "/stats/prometheus"


def filter_() -> Json:
    """Return the listener's one filter."""
    config = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=NAME,
        normalize_path=True,
        common_http_protocol_options={"idle_timeout": "300s", "max_headers_count": 80},
        request_headers_timeout="10s",
        http_filters=[
            {
                "name": "envoy.filters.http.router",
                "typed_config": typed("envoy.extensions.filters.http.router.v3.Router"),
            }
        ],
        route_config={
            "name": NAME,
            "virtual_hosts": [{"name": NAME, "domains": ["*"], "routes": [_scrape(), not_found()]}],
        },
    )
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def _scrape() -> Json:
    # The header holds the query as well, which would go on to the admin: there is none.
    asked = {":method": "GET", ":path": _PATH}
    return {
        "name": NAME,
        "match": {
            "path": _PATH,
            "headers": [{"name": name, "string_match": {"exact": value}} for name, value in asked.items()],
        },
        "route": {"cluster": ADMIN, "prefix_rewrite": _ADMIN_PATH, "timeout": "10s"},
    }
