"""The certification authority: certificates for attested keys, revocation, CRL, OCSP, RFC 3161 time stamps."""
