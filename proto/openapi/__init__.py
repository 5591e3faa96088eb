"""A protoc plugin that writes OpenAPI 3.1 of what Envoy serves as REST: google.api.http, protovalidate, comments."""
