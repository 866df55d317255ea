#!/bin/sh
# /etc/letsencrypt/renewal-hooks/deploy/engineio: certbot runs this with every new certificate.
set -e
install -m 640 -g engineio-tls "$RENEWED_LINEAGE/fullchain.pem" "$RENEWED_LINEAGE/privkey.pem" /etc/engineio/
