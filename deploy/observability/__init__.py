"""What watches the mesh: objectives, alert rules and dashboards as code, and what is generated from them.

`python -m deploy.observability` writes rules.yaml (a PrometheusRule), finid.rules.yaml (the same groups for a plain
Prometheus) and dashboards/. All of it is committed; tests/observability says whether it is what the code says, whether
promtool takes it, and what each alert fires on.
"""
