"""Envoy at the edge: TLS, tokens, JSON transcoding, limits. Built here as data and written as JSON, which is YAML.

Most of Envoy's defaults are meant for another place than the edge, so each switch says why it is set.
"""
