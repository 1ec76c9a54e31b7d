/* TLS for the server: the context from files, and a self-signed certificate for machines that have none. */
#ifndef GATEWAY_HTTP_TLS_H
#define GATEWAY_HTTP_TLS_H

#include <openssl/ssl.h>
#include "base/err.h"

/* A server context: TLS 1.2 or newer, AEAD suites only, ALPN http/1.1, no renegotiation, no compression, no
 * tickets kept. *out is the caller's (SSL_CTX_free). ERR_INVALID names the file that is missing, unreadable
 * or does not match. */
int tls_context_create(SSL_CTX **out, const char *cert_file, const char *key_file, struct err *e);

/* Writes a fresh EC P-256 key and a certificate for localhost, 127.0.0.1 and ::1, valid for days days from
 * now, both atomically; key 0600, certificate 0644. Blocking: not on a loop. Overwrites what is there. */
int tls_self_signed(const char *cert_file, const char *key_file, int days, struct err *e);

#endif
