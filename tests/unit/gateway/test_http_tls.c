/* TLS: the certificate that we make, the same exchanges over it, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/crypto.h"
#include "base/fs.h"
#include "gateway/http/tls.h"
#include "tests/unit/gateway/http_client.h"
#include "tests/unit/gateway/http_fixture.h"

static struct fixture fixture;
static char folder[64], cert_file[96], key_file[96];
static SSL_CTX *client_ctx;

static void open_tls(struct client *c)
{
    client_open(c, fixture.port);
    client_start_tls(c, client_ctx);
}

static void requests_are_served_over_tls_as_over_plain_sockets(void **state)
{
    (void)state;
    struct client c;
    struct reply r;
    open_tls(&c);
    client_expect(&c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200);
    client_expect(&c, "GET /pool HTTP/1.1\r\nHost: a\r\n\r\n", 201);
    client_text(&c, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    client_reply(&c, &r, false);
    assert_string_equal(r.body.data, "hello");
    reply_dispose(&r);
    client_text(&c, "GET /flood?n=5000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    client_reply(&c, &r, false);
    assert_int_equal(r.body.len, 5000000);
    reply_dispose(&r);
    client_expect(&c, "nonsense\r\n\r\n", 400);
    assert_true(client_is_closed(&c));
    client_close(&c);
}

static bool handler_waits(void *arg)
{
    (void)arg;
    return atomic_load(&fixture.running) == 1;
}

/* Pauses and resumes of a TLS connection's input, where bytes may hide inside OpenSSL. */
static void an_upload_over_tls_survives_many_pauses(void **state)
{
    (void)state;
    enum { BYTES = 40 << 20, PIECE = 100000 };
    struct client c;
    struct reply r;
    char text[128];
    static char piece[PIECE];
    memset(piece, 'x', sizeof piece);
    uint32_t crc = 0;
    open_tls(&c);
    snprintf(text, sizeof text, "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", BYTES);
    client_text(&c, text);
    wait_until(handler_waits, NULL, "the handler starts");
    client_send(&c, piece, PIECE); /* these wait in the queue and inside OpenSSL until the gate opens */
    crc = crypto_crc32(crc, piece, PIECE);
    fixture_open_gate(&fixture);
    for (int left = BYTES - PIECE; left > 0; left -= PIECE) {
        size_t n = left < PIECE ? (size_t)left : PIECE;
        client_send(&c, piece, n);
        crc = crypto_crc32(crc, piece, n);
    }
    client_reply(&c, &r, false);
    snprintf(text, sizeof text, "%d %08x", BYTES, crc);
    assert_string_equal(r.body.data, text);
    reply_dispose(&r);
    client_close(&c);
}

static bool one_left(void *arg)
{
    (void)arg;
    return atomic_load(&fixture.cancelled) == 1;
}

static bool hang_began(void *arg)
{
    (void)arg;
    return fixture_stats(&fixture).open_exchanges == 1;
}

static bool nothing_is_open(void *arg)
{
    (void)arg;
    struct server_stats s = fixture_stats(&fixture);
    return s.open_connections == 0 && s.open_exchanges == 0;
}

static void a_tls_client_that_leaves_cancels_its_request(void **state)
{
    (void)state;
    struct client c;
    wait_until(nothing_is_open, NULL, "earlier connections close");
    open_tls(&c);
    client_text(&c, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_until(hang_began, NULL, "the request arrives");
    client_close(&c);
    wait_until(one_left, NULL, "on_cancel is called");
    wait_until(nothing_is_open, NULL, "the connection closes");
}

static void the_certificate_names_localhost_and_both_loopbacks(void **state)
{
    (void)state;
    struct client c;
    open_tls(&c); /* verified against the certificate itself as the only root */
    X509 *cert = SSL_get1_peer_certificate(c.ssl);
    assert_int_equal(X509_check_host(cert, "localhost", 0, 0, NULL), 1);
    assert_int_equal(X509_check_ip_asc(cert, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(cert, "::1", 0), 1);
    assert_int_equal(X509_check_host(cert, "example.com", 0, 0, NULL), 0);
    X509_free(cert);
    assert_string_equal(SSL_get_version(c.ssl), "TLSv1.3");
    const unsigned char *alpn;
    unsigned int len;
    SSL_get0_alpn_selected(c.ssl, &alpn, &len);
    assert_int_equal(len, 8);
    assert_memory_equal(alpn, "http/1.1", 8);
    client_close(&c);
    struct stat s;
    assert_int_equal(stat(key_file, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0600);
    assert_int_equal(stat(cert_file, &s), 0);
    assert_int_equal(s.st_mode & 0777, 0644);
}

/* Whether a handshake with these limits on versions and protocols succeeds. */
static bool handshake(int max_version, const char *alpn, unsigned alpn_len)
{
    struct client c;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(ctx, max_version);
    if (alpn) SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)alpn, alpn_len);
    client_open(&c, fixture.port);
    c.ssl = SSL_new(ctx);
    SSL_set_fd(c.ssl, c.fd);
    bool good = SSL_connect(c.ssl) == 1;
    client_close(&c);
    SSL_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

static void old_versions_and_other_protocols_are_refused(void **state)
{
    (void)state;
    assert_true(handshake(TLS1_2_VERSION, NULL, 0));
    assert_true(handshake(TLS1_3_VERSION, "\x02h2\x08http/1.1", 12));
    assert_false(handshake(TLS1_1_VERSION, NULL, 0));
    assert_false(handshake(TLS1_3_VERSION, "\x02h2", 3));
}

static void plain_text_on_a_tls_port_is_closed(void **state)
{
    (void)state;
    struct client c;
    client_open(&c, fixture.port);
    client_text(&c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client_read_to_end(&c);
    assert_null(strstr(c.in.data, "HTTP/1.1"));
    client_close(&c);
}

static void bad_files_are_named(void **state)
{
    (void)state;
    SSL_CTX *ctx = NULL;
    struct err e = {0};
    char other[96];
    assert_int_equal(tls_context_create(&ctx, "/nonexistent.pem", key_file, &e), ERR_INVALID);
    assert_non_null(strstr(e.message, "/nonexistent.pem"));
    assert_string_equal(e.field, "tls-cert");
    assert_int_equal(tls_context_create(&ctx, cert_file, cert_file, &e), ERR_INVALID);
    assert_string_equal(e.field, "tls-key");
    snprintf(other, sizeof other, "%s/other.key", folder);
    char other_cert[96];
    snprintf(other_cert, sizeof other_cert, "%s/other.crt", folder);
    assert_int_equal(tls_self_signed(other_cert, other, 1, &e), 0);
    assert_int_equal(tls_context_create(&ctx, cert_file, other, &e), ERR_INVALID);
    assert_string_equal(e.field, "tls-key");
    assert_int_equal(tls_context_create(&ctx, NULL, NULL, &e), ERR_INVALID);
    assert_null(ctx);
}

static int start(void **state)
{
    (void)state;
    struct err e = {0};
    crypto_init();
    snprintf(folder, sizeof folder, "/tmp/tenor-tls-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(cert_file, sizeof cert_file, "%s/tls.crt", folder);
    snprintf(key_file, sizeof key_file, "%s/tls.key", folder);
    if (tls_self_signed(cert_file, key_file, 30, &e) != 0) fail_msg("%s", e.message);
    fixture_init(&fixture);
    fixture.config.listeners[0].tls = true;
    fixture.config.tls_cert_file = cert_file;
    fixture.config.tls_key_file = key_file;
    fixture_start(&fixture);
    client_ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_load_verify_locations(client_ctx, cert_file, NULL);
    SSL_CTX_set_verify(client_ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_alpn_protos(client_ctx, (const unsigned char *)"\x08http/1.1", 9);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_stop(&fixture);
    SSL_CTX_free(client_ctx);
    return fs_remove_tree(folder, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_served_over_tls_as_over_plain_sockets),
        cmocka_unit_test(an_upload_over_tls_survives_many_pauses),
        cmocka_unit_test(a_tls_client_that_leaves_cancels_its_request),
        cmocka_unit_test(the_certificate_names_localhost_and_both_loopbacks),
        cmocka_unit_test(old_versions_and_other_protocols_are_refused),
        cmocka_unit_test(plain_text_on_a_tls_port_is_closed),
        cmocka_unit_test(bad_files_are_named),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
