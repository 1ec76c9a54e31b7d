/* Makes the server's TLS context from files. */
#include "gateway/http/tls.h"

#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

/* The reason of OpenSSL's last complaint, for a person. Empties its queue. */
static const char *complaint(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    ERR_clear_error();
    return reason ? reason : "unknown reason";
}

/* Only http/1.1 is spoken. A client that offers other protocols alone is told so instead of being
 * misunderstood. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned int in_len, void *arg)
{
    (void)ssl;
    (void)arg;
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen = NULL;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int configure(SSL_CTX *ctx, struct err *e)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ctx, 1); /* a record's head and the rest of it by one read */
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL") != 1)
        return err_set(e, ERR_INTERNAL, NULL, "OpenSSL cannot be configured for TLS 1.2: %s", complaint());
    return 0;
}

static int load_files(SSL_CTX *ctx, const char *cert_file, const char *key_file, struct err *e)
{
    if (SSL_CTX_use_certificate_chain_file(ctx, cert_file) != 1)
        return err_set(e, ERR_INVALID, "tls-cert", "%s is not a readable PEM certificate chain: %s",
                       cert_file, complaint());
    if (SSL_CTX_use_PrivateKey_file(ctx, key_file, SSL_FILETYPE_PEM) != 1)
        return err_set(e, ERR_INVALID, "tls-key",
                       "%s is not a readable PEM private key of that certificate: %s", key_file, complaint());
    if (SSL_CTX_check_private_key(ctx) != 1)
        return err_set(e, ERR_INVALID, "tls-key", "the key in %s does not belong to the certificate in %s",
                       key_file, cert_file);
    return 0;
}

int tls_context_create(SSL_CTX **out, const char *cert_file, const char *key_file, struct err *e)
{
    *out = NULL;
    if (!cert_file || !*cert_file || !key_file || !*key_file)
        return err_set(e, ERR_INVALID, "tls-cert",
                       "a TLS listener needs both a certificate file and a key file");
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx) return err_set(e, ERR_NOMEM, NULL, "no memory for a TLS context");
    int rc = configure(ctx, e);
    if (!rc) rc = load_files(ctx, cert_file, key_file, e);
    if (rc) {
        SSL_CTX_free(ctx);
        return rc;
    }
    *out = ctx;
    return 0;
}
